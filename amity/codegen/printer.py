"""Kernels as LLVM IR text: what every LLVM target shares."""

from __future__ import annotations

from amity.ir.kernel import BITS, COMPARE, Branch, Function, Kernel, Loop, Value

from .words import (
    FLOAT_COMPARE,
    FLOAT_OPS,
    INT_OPS,
    INTRINSIC,
    MEMORY,
    UNSIGNED_OPS,
    constant,
    is_float,
    is_unsigned,
    memory_name,
    type_of,
)  # fmt: skip


class Printer:
    """Prints one kernel. `has` names the target's abilities that change the text."""

    def __init__(self, kernel: Kernel, has: frozenset[str], attributes: str) -> None:
        self.kernel, self.has, self.attributes = kernel, has, attributes
        self.declared: set[str] = set()
        self.lines: list[str] = []
        self.block = "entry"
        self.temps = 0

    def text(self) -> str:
        bodies = [self.function(f) for f in self.kernel.functions]
        return "\n".join([*sorted(self.declared), *bodies, "!0 = !{i32 1}", ""])

    def function(self, f: Function) -> str:
        self.lines, self.block = [], "entry"
        params = ", ".join(
            f"{type_of(a.dtype)}{' noalias' if a.dtype == 'ptr' and a.attr == 'scratch' else ''} "
            f"%v{a.id}"
            for a in f.args
        )
        link = "" if f.is_entry else "internal "
        self.instructions(f.body)
        body = "\n".join(self.lines)
        return f'define {link}void @"{f.name}"({params}) {self.attributes} {{\nentry:\n{body}\n  ret void\n}}\n'

    # -- names
    def ref(self, v: Value) -> str:
        if v.op == "iota":
            return "<" + ", ".join(f"{type_of(v.dtype)} {i}" for i in range(v.width)) + ">"
        return constant(v.attr, v.dtype, v.width) if v.op == "const" else f"%v{v.id}"

    def typed(self, v: Value) -> str:
        return f"{type_of(v.dtype, v.width)} {self.ref(v)}"

    def emit(self, line: str) -> None:
        self.lines.append("  " + line)

    def temp(self, expression: str) -> str:
        self.temps += 1
        self.emit(f"%t{self.temps} = {expression}")
        return f"%t{self.temps}"

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name

    def intrinsic(
        self, name: str, result: str, args: list[tuple[str, str]], params: str | None = None
    ) -> str:
        """A call of an LLVM intrinsic, declared once; `args` are (type, text)."""
        types = params or ", ".join(t for t, _ in args)
        self.declared.add(f"declare {result} @{name}({types})")
        return f"call {result} @{name}({', '.join(f'{t} {x}' for t, x in args)})"

    # -- instructions
    def instructions(self, body: list) -> None:
        for item in body:
            if isinstance(item, Loop):
                self.loop(item)
            elif isinstance(item, Branch):
                self.branch(item)
            else:
                self.instruction(item)

    def instruction(self, v: Value) -> None:
        method = getattr(self, f"op_{v.op}", None)
        if method is not None:
            method(v)
        elif v.op in COMPARE:
            self.compare(v)
        elif v.op in INTRINSIC:
            t = type_of(v.dtype, v.width)
            name = f"llvm.{INTRINSIC[v.op]}.{self.suffix(v)}"
            self.define(v, self.intrinsic(name, t, [(t, self.ref(v.args[0]))]))
        else:
            self.define(v, self.arithmetic(v))

    def define(self, v: Value, expression: str) -> None:
        self.emit(f"%v{v.id} = {expression}")

    def suffix(self, v: Value) -> str:
        name = v.dtype if v.dtype[0] == "f" else f"i{BITS[v.dtype]}"
        return name if v.width == 1 else f"v{v.width}{name}"

    def arithmetic(self, v: Value) -> str:
        a, b = v.args
        table = (
            FLOAT_OPS
            if is_float(v.dtype)
            else INT_OPS | (UNSIGNED_OPS if is_unsigned(v.dtype) else {})
        )
        return f"{table[v.op]} {self.typed(a)}, {self.ref(b)}"

    def compare(self, v: Value) -> None:
        a, b = v.args
        if is_float(a.dtype):
            self.define(v, f"fcmp {FLOAT_COMPARE[v.op]} {self.typed(a)}, {self.ref(b)}")
        else:
            sign = "" if v.op in ("eq", "ne") else "u" if is_unsigned(a.dtype) else "s"
            self.define(v, f"icmp {sign}{v.op} {self.typed(a)}, {self.ref(b)}")

    def extreme(self, v: Value, float_op: str, int_op: str) -> None:
        a, b = v.args
        t = type_of(v.dtype, v.width)
        if is_float(
            v.dtype
        ):  # compare and select is one instruction on x86 and wasm, and keeps NaN in b
            bit = "i1" if v.width == 1 else f"<{v.width} x i1>"
            c = self.temp(f"fcmp {float_op} {self.typed(a)}, {self.ref(b)}")
            self.define(v, f"select {bit} {c}, {self.typed(a)}, {self.typed(b)}")
        else:
            name = f"llvm.{'u' if is_unsigned(v.dtype) else 's'}{int_op}.{self.suffix(v)}"
            self.define(v, self.intrinsic(name, t, [(t, self.ref(a)), (t, self.ref(b))]))

    def op_min(self, v: Value) -> None:
        self.extreme(v, "olt", "min")

    def op_max(self, v: Value) -> None:
        self.extreme(v, "ogt", "max")

    def op_mulhi(self, v: Value) -> None:
        wide = type_of("u64", v.width)
        a, b = (self.temp(f"zext {self.typed(x)} to {wide}") for x in v.args)
        product = self.temp(f"mul {wide} {a}, {b}")
        shift = constant(32, "u64", v.width)
        high = self.temp(f"lshr {wide} {product}, {shift}")
        self.define(v, f"trunc {wide} {high} to {type_of(v.dtype, v.width)}")

    def op_neg(self, v: Value) -> None:
        a = v.args[0]
        zero = constant(0, v.dtype, v.width)
        self.define(
            v,
            f"fneg {self.typed(a)}"
            if is_float(v.dtype)
            else f"sub {type_of(v.dtype, v.width)} {zero}, {self.ref(a)}",
        )

    def op_not(self, v: Value) -> None:
        ones = constant(True if v.dtype == "bool" else -1, v.dtype, v.width)
        self.define(v, f"xor {self.typed(v.args[0])}, {ones}")

    def op_abs(self, v: Value) -> None:
        a, t = v.args[0], type_of(v.dtype, v.width)
        if is_float(v.dtype):
            self.define(v, self.intrinsic(f"llvm.fabs.{self.suffix(v)}", t, [(t, self.ref(a))]))
        else:
            self.define(
                v,
                self.intrinsic(
                    f"llvm.abs.{self.suffix(v)}", t, [(t, self.ref(a)), ("i1", "false")]
                ),
            )

    def op_fma(self, v: Value) -> None:
        t = type_of(v.dtype, v.width)
        if "fma" in self.has:
            self.define(
                v,
                self.intrinsic(f"llvm.fma.{self.suffix(v)}", t, [(t, self.ref(x)) for x in v.args]),
            )
        else:
            product = self.temp(f"fmul {self.typed(v.args[0])}, {self.ref(v.args[1])}")
            self.define(v, f"fadd {t} {product}, {self.ref(v.args[2])}")

    def op_dot2(self, v: Value) -> None:
        t, pairs = type_of("f32", v.width), type_of("bf16", 2 * v.width)
        a, b = (self.temp(f"bitcast {self.typed(x)} to {pairs}") for x in v.args[:2])
        name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * v.width}"
        self.define(v, self.intrinsic(name, t, [(t, self.ref(v.args[2])), (pairs, a), (pairs, b)]))

    def op_select(self, v: Value) -> None:
        self.define(v, "select " + ", ".join(self.typed(x) for x in v.args))

    def op_convert(self, v: Value) -> None:
        a = v.args[0]
        src, dst, to = a.dtype, v.dtype, type_of(v.dtype, v.width)
        if is_float(src) and is_float(dst):
            word = "fpext" if dst == "f64" else "fptrunc"
        elif is_float(
            src
        ):  # saturating, so that no input is undefined; narrow integers wrap as through i64
            self.float_to_int(v, a)
            return
        elif is_float(dst):
            word = "uitofp" if is_unsigned(src) else "sitofp"
        elif BITS[dst] < BITS[src]:
            word = "trunc"
        elif BITS[dst] > BITS[src]:
            word = "zext" if is_unsigned(src) else "sext"
        else:
            word = "bitcast"
        self.define(v, f"{word} {self.typed(a)} to {to}")

    def float_to_int(self, v: Value, a: Value) -> None:
        wide = "i64" if BITS[v.dtype] == 64 else "i32"
        t = type_of(wide, v.width)
        float_name = a.dtype if a.width == 1 else f"v{a.width}{a.dtype}"
        int_name = wide if a.width == 1 else f"v{a.width}{wide}"
        call = self.intrinsic(
            f"llvm.fptosi.sat.{int_name}.{float_name}",
            t,
            [(type_of(a.dtype, a.width), self.ref(a))],
        )
        if BITS[v.dtype] == BITS[wide]:
            self.define(v, call)
        else:
            self.define(v, f"trunc {t} {self.temp(call)} to {type_of(v.dtype, v.width)}")

    def op_bitcast(self, v: Value) -> None:
        self.define(v, f"bitcast {self.typed(v.args[0])} to {type_of(v.dtype, v.width)}")

    # -- vectors
    def op_splat(self, v: Value) -> None:
        t = type_of(v.dtype, v.width)
        one = self.temp(f"insertelement {t} poison, {self.typed(v.args[0])}, i32 0")
        self.define(v, f"shufflevector {t} {one}, {t} poison, <{v.width} x i32> zeroinitializer")

    def op_iota(self, v: Value) -> None:
        """A constant: `ref` prints it."""

    def op_shuffle(self, v: Value) -> None:
        a, b = v.args
        lanes = ", ".join(f"i32 {i}" for i in v.attr)
        self.define(
            v, f"shufflevector {self.typed(a)}, {self.typed(b)}, <{len(v.attr)} x i32> <{lanes}>"
        )

    def op_extract(self, v: Value) -> None:
        self.define(v, f"extractelement {self.typed(v.args[0])}, i32 {v.attr}")

    # -- memory
    def op_pointer(self, v: Value) -> None:
        p = self.temp(f"getelementptr ptr, {self.typed(v.args[0])}, i64 {v.attr}")
        self.define(v, f"load ptr, ptr {p}, align 8")

    def op_offset(self, v: Value) -> None:
        self.define(v, f"getelementptr i8, {self.typed(v.args[0])}, {self.typed(v.args[1])}")

    def address(self, pointer: Value, index: Value, dtype: str) -> str:
        if index.op == "const" and index.width == 1 and index.attr == 0:
            return self.ref(pointer)
        return self.temp(
            f"getelementptr {type_of(dtype, 1, True)}, {self.typed(pointer)}, {self.typed(index)}"
        )

    def place(self, v: Value, dtype: str) -> str:
        """Where a load or store goes."""
        return self.address(v.args[0], v.args[1], dtype)

    def op_load(self, v: Value) -> None:
        _, index, *mask = v.args
        dtype, memory = v.attr, type_of(v.attr, v.width, True)
        align = max(1, BITS[dtype] // 8)
        p = self.place(v, dtype)
        zero = "zeroinitializer" if v.width > 1 else None
        vec = f"v{v.width}{memory_name(dtype)}"
        if index.width > 1:
            ptrs = f"<{v.width} x ptr>"
            bits = f"<{v.width} x i1>"
            lanes = self.ref(mask[0]) if mask else "splat (i1 true)"
            raw = self.intrinsic(
                f"llvm.masked.gather.{vec}.v{v.width}p0",
                memory,
                [(f"{ptrs} align {align}", p), (bits, lanes), (memory, zero)],
                f"{ptrs}, {bits}, {memory}",
            )
        elif mask and v.width > 1:
            bits = f"<{v.width} x i1>"
            raw = self.intrinsic(
                f"llvm.masked.load.{vec}.p0",
                memory,
                [(f"ptr align {align}", p), (bits, self.ref(mask[0])), (memory, zero)],
                f"ptr, {bits}, {memory}",
            )
        elif mask:
            self.scalar_masked_load(v, p, self.ref(mask[0]), memory, align)
            return
        else:
            raw = f"load {memory}, ptr {p}, align {align}"
        self.loaded(v, raw, memory)

    def scalar_masked_load(self, v: Value, p: str, mask: str, memory: str, align: int) -> None:
        k = v.id
        before = self.block
        self.emit(f"br i1 {mask}, label %m{k}, label %e{k}")
        self.label(f"m{k}")
        x = self.temp(f"load {memory}, ptr {p}, align {align}")
        self.emit(f"br label %e{k}")
        self.label(f"e{k}")
        zero = constant(0, v.attr) if v.attr not in MEMORY else "0"
        raw = f"phi {memory} [ {zero}, %{before} ], [ {x}, %m{k} ]"
        self.loaded(v, raw, memory)

    def loaded(self, v: Value, raw: str, memory: str) -> None:
        """Memory form to register form."""
        if v.attr == "bool":
            self.define(v, f"icmp ne {memory} {self.temp(raw)}, {constant(0, 'u8', v.width)}")
        elif v.attr in ("bf16", "f16"):
            self.define(v, self.from_16(self.temp(raw), v.attr, v.width))
        else:
            self.define(v, raw)

    def op_store(self, v: Value) -> None:
        _, index, value, *mask = v.args
        dtype, stream = v.attr
        memory = type_of(dtype, v.width, True)
        align = max(1, BITS[dtype] // 8)
        x = self.stored(value, dtype, v.width)
        p = self.place(v, dtype)
        vec = f"v{v.width}{memory_name(dtype)}"
        bits = f"<{v.width} x i1>"
        if index.width > 1:
            ptrs = f"<{v.width} x ptr>"
            lanes = self.ref(mask[0]) if mask else "splat (i1 true)"
            self.emit(
                self.intrinsic(
                    f"llvm.masked.scatter.{vec}.v{v.width}p0",
                    "void",
                    [(memory, x), (f"{ptrs} align {align}", p), (bits, lanes)],
                    f"{memory}, {ptrs}, {bits}",
                )
            )
        elif mask and v.width > 1:
            self.emit(
                self.intrinsic(
                    f"llvm.masked.store.{vec}.p0",
                    "void",
                    [(memory, x), (f"ptr align {align}", p), (bits, self.ref(mask[0]))],
                    f"{memory}, ptr, {bits}",
                )
            )
        elif mask:
            self.emit(f"br i1 {self.ref(mask[0])}, label %m{v.id}, label %e{v.id}")
            self.label(f"m{v.id}")
            self.emit(f"store {memory} {x}, ptr {p}, align {align}")
            self.emit(f"br label %e{v.id}")
            self.label(f"e{v.id}")
        elif stream:
            full = max(align, BITS[dtype] // 8 * v.width)
            self.emit(f"store {memory} {x}, ptr {p}, align {full}, !nontemporal !0")
        else:
            self.emit(f"store {memory} {x}, ptr {p}, align {align}")

    def stored(self, value: Value, dtype: str, width: int) -> str:
        """Register form to memory form."""
        x = self.ref(value) if value.width == width else self.splat_text(value, width)
        if dtype == "bool":
            return self.temp(f"zext {type_of('bool', width)} {x} to {type_of('u8', width)}")
        if dtype in ("bf16", "f16"):
            return self.to_16(x, dtype, width)
        return x

    def splat_text(self, value: Value, width: int) -> str:
        if value.op == "const":
            return constant(value.attr, value.dtype, width)
        t = type_of(value.dtype, width)
        one = self.temp(f"insertelement {t} poison, {self.typed(value)}, i32 0")
        return self.temp(f"shufflevector {t} {one}, {t} poison, <{width} x i32> zeroinitializer")

    # -- 16-bit floats, by bit code where the target has no instruction
    def from_16(self, bits: str, dtype: str, w: int) -> str:
        i16, i32, f32 = type_of("i16", w), type_of("i32", w), type_of("f32", w)
        c = lambda x: constant(x, "i32", w)  # noqa: E731
        if dtype == "f16" and "f16" in self.has:
            half = self.temp(f"bitcast {i16} {bits} to {type_of('f16', w)}")
            return f"fpext {type_of('f16', w)} {half} to {f32}"
        wide = self.temp(f"zext {i16} {bits} to {i32}")
        if dtype == "bf16":
            return f"bitcast {i32} {self.temp(f'shl {i32} {wide}, {c(16)}')} to {f32}"
        # magnitude placed in f32's fields and scaled by 2^112, which also normalises subnormals
        low = self.temp(f"and {i32} {wide}, {c(0x7FFF)}")
        moved = self.temp(f"shl {i32} {low}, {c(13)}")
        scaled = self.temp(
            f"fmul {f32} {self.temp(f'bitcast {i32} {moved} to {f32}')}, "
            f"{constant(2.0**112, 'f32', w)}"
        )
        special = self.temp(f"icmp uge {i32} {low}, {c(0x7C00)}")
        infnan = self.temp(f"or {i32} {moved}, {c(0x7F800000)}")
        magnitude = self.temp(
            f"select {type_of('bool', w)} {special}, {i32} {infnan}, {i32} "
            f"{self.temp(f'bitcast {f32} {scaled} to {i32}')}"
        )
        sign = self.temp(f"shl {i32} {self.temp(f'and {i32} {wide}, {c(0x8000)}')}, {c(16)}")
        return f"bitcast {i32} {self.temp(f'or {i32} {magnitude}, {sign}')} to {f32}"

    def to_16(self, x: str, dtype: str, w: int) -> str:
        i16, i32, f32, bit = (
            type_of("i16", w),
            type_of("i32", w),
            type_of("f32", w),
            type_of("bool", w),
        )
        c = lambda n: constant(n, "i32", w)  # noqa: E731
        if dtype == "f16" and "f16" in self.has:
            half = self.temp(f"fptrunc {f32} {x} to {type_of('f16', w)}")
            return self.temp(f"bitcast {type_of('f16', w)} {half} to {i16}")
        bits = self.temp(f"bitcast {f32} {x} to {i32}")
        nan = self.temp(f"fcmp uno {f32} {x}, {x}")
        if dtype == "bf16":  # round to nearest even by adding half a unit and the kept bit
            odd = self.temp(f"and {i32} {self.temp(f'lshr {i32} {bits}, {c(16)}')}, {c(1)}")
            rounded = self.temp(f"add {i32} {self.temp(f'add {i32} {bits}, {c(0x7FFF)}')}, {odd}")
            high = self.temp(f"lshr {i32} {rounded}, {c(16)}")
            out = self.temp(f"select {bit} {nan}, {i32} {c(0x7FC0)}, {i32} {high}")
            return self.temp(f"trunc {i32} {out} to {i16}")
        sign = self.temp(f"lshr {i32} {self.temp(f'and {i32} {bits}, {c(-0x80000000)}')}, {c(16)}")
        mag = self.temp(f"and {i32} {bits}, {c(0x7FFFFFFF)}")
        # subnormal halves: adding 0.5 lets the float adder round at the right bit
        tiny = self.temp(
            f"fadd {f32} {self.temp(f'bitcast {i32} {mag} to {f32}')}, {constant(0.5, 'f32', w)}"
        )
        tiny = self.temp(
            f"sub {i32} {self.temp(f'bitcast {f32} {tiny} to {i32}')}, {c(0x3F000000)}"
        )
        odd = self.temp(f"and {i32} {self.temp(f'lshr {i32} {mag}, {c(13)}')}, {c(1)}")
        normal = self.temp(
            f"add {i32} {self.temp(f'add {i32} {mag}, {c(0xFFF - (112 << 23))}')}, {odd}"
        )
        normal = self.temp(f"lshr {i32} {normal}, {c(13)}")
        out = self.temp(
            f"select {bit} {self.temp(f'icmp ult {i32} {mag}, {c(113 << 23)}')}, {i32} {tiny}, "
            f"{i32} {normal}"
        )
        over = self.temp(f"icmp uge {i32} {mag}, {c(0x477FF000)}")
        out = self.temp(f"select {bit} {over}, {i32} {c(0x7C00)}, {i32} {out}")
        out = self.temp(f"select {bit} {nan}, {i32} {c(0x7E00)}, {i32} {out}")
        return self.temp(f"trunc {i32} {self.temp(f'or {i32} {out}, {sign}')} to {i16}")

    def op_round_to(self, v: Value) -> None:
        bits = self.to_16(self.ref(v.args[0]), v.attr, v.width)
        self.define(v, self.from_16(bits, v.attr, v.width))

    def op_prefetch(self, v: Value) -> None:
        write, near = v.attr
        args = [
            ("ptr", self.ref(v.args[0])),
            ("i32", str(int(write))),
            ("i32", "3" if near else "2"),
            ("i32", "1"),
        ]
        self.emit(self.intrinsic("llvm.prefetch.p0", "void", args))

    # -- control
    def op_call(self, v: Value) -> None:
        self.emit(f'call void @"{v.attr}"({", ".join(self.typed(a) for a in v.args)})')

    def loop(self, loop: Loop) -> None:
        k = loop.index.id
        before = self.block
        self.emit(f"br label %h{k}")
        self.label(f"h{k}")
        slot = len(self.lines)
        test = self.temp(f"icmp slt i64 %v{k}, {self.ref(loop.hi)}")
        self.emit(f"br i1 {test}, label %b{k}, label %x{k}")
        self.label(f"b{k}")
        self.instructions(loop.body)
        following = self.temp(f"add nsw i64 %v{k}, {self.ref(loop.step)}")
        latch = self.block
        self.emit(f"br label %h{k}")
        phis = [f"  %v{k} = phi i64 [ {self.ref(loop.lo)}, %{before} ], [ {following}, %{latch} ]"]
        for carried, start, new in zip(loop.carry, loop.init, loop.new, strict=True):
            t = type_of(carried.dtype, carried.width)
            phis.append(
                f"  %v{carried.id} = phi {t} [ {self.ref(start)}, %{before} ], [ "
                f"{self.ref(new)}, %{latch} ]"
            )
        self.lines[slot:slot] = phis
        self.label(f"x{k}")

    def branch(self, b: Branch) -> None:
        self.temps += 1
        k = self.temps
        self.emit(f"br i1 {self.ref(b.condition)}, label %then{k}, label %after{k}")
        self.label(f"then{k}")
        self.instructions(b.body)
        self.emit(f"br label %after{k}")
        self.label(f"after{k}")
