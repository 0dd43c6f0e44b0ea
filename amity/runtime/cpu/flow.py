"""The forms that text of generated glue is made of: loops, choices, and words read from memory.

Labels and values are named after what a form makes, so a function makes each name once. A form may
stand wherever an instruction may; what follows it goes on where it is done.
"""

from __future__ import annotations

from collections.abc import Sequence

Carried = tuple[str, str, str, str]  # type and name of a value, what it is first, and then


def each(i: str, count: str, body: str, carried: Sequence[Carried] = ()) -> str:
    """A loop for `%i` from 0 to below a count; where its body ends, or goes to label `i.next`, the next
    turn begins.
    """
    values = [
        f"%{name} = phi {kind} [ {first}, %{i}.enter ], [ {then}, %{i}.next ]"
        for kind, name, first, then in (("i64", i, "0", f"%{i}.up"), *carried)
    ]
    lines = "\n  ".join(values)
    return f"""br label %{i}.enter
{i}.enter:
  br label %{i}.loop
{i}.loop:
  {lines}
  %{i}.more = icmp slt i64 %{i}, {count}
  br i1 %{i}.more, label %{i}.body, label %{i}.done
{i}.body:
  {_going_on(body, f"{i}.next")}
{i}.next:
  %{i}.up = add i64 %{i}, 1
  br label %{i}.loop
{i}.done:"""


def _going_on(body: str, label: str) -> str:
    """Instructions that go on to a label, unless they end with going elsewhere."""
    lines = body.strip()
    is_left = lines.rpartition("\n")[2].split()[0] in ("br", "ret")
    return lines if is_left else f"{lines}\n  br label %{label}"


def when(condition: str, body: str) -> str:
    """What is done only if `%condition` holds; then `condition.no` is where it goes on."""
    return f"""br i1 %{condition}, label %{condition}.yes, label %{condition}.no
{condition}.yes:
  {_going_on(body, f"{condition}.no")}
{condition}.no:"""


def drop_if_there(name: str) -> str:
    """Let go of an object, if there is one."""
    return f"%{name}.is = icmp ne ptr %{name}, null\n  " + when(
        f"{name}.is", f"call void @Py_DecRef(ptr %{name})"
    )


def at(name: str, base: str, offset: int | str) -> str:
    """The address so many bytes in."""
    return f"%{name} = getelementptr i8, ptr %{base}, i64 {offset}"


def word(name: str, base: str, index: int | str) -> str:
    """The address of one of some words."""
    return f"%{name} = getelementptr i64, ptr %{base}, i64 {index}"


def read_at(name: str, base: str, offset: int | str, kind: str = "ptr") -> str:
    """What lies so many bytes in; `%name.at` is where."""
    return f"{at(f'{name}.at', base, offset)}\n  %{name} = load {kind}, ptr %{name}.at"


def read_word(name: str, base: str, index: int | str, kind: str = "i64") -> str:
    """What one of some words holds; `%name.at` is where."""
    return f"{word(f'{name}.at', base, index)}\n  %{name} = load {kind}, ptr %{name}.at"


def call_python(made: str, function: str, *first: str) -> str:
    """Call an object with some objects and the %nargs arguments at %args after them."""
    places = [
        f"{word(f'{made}.{n}', f'{made}.stack', n)}\n  store ptr %{x}, ptr %{made}.{n}"
        for n, x in enumerate(first)
    ]
    others = f"{made}.others"
    copy = f"""
  {read_word(f"{others}.one", "args", f"%{others}", "ptr")}
  {word(f"{others}.to", f"{made}.rest", f"%{others}")}
  store ptr %{others}.one, ptr %{others}.to"""
    lines = [
        f"%{made}.count = add i64 %nargs, {len(first)}",
        f"%{made}.stack = alloca ptr, i64 %{made}.count",
        *places,
        word(f"{made}.rest", f"{made}.stack", len(first)),
        each(others, "%nargs", copy),
        f"%{made} = call ptr @PyObject_Vectorcall("
        f"ptr %{function}, ptr %{made}.stack, i64 %{made}.count, ptr null)",
    ]
    return "\n  ".join(lines)
