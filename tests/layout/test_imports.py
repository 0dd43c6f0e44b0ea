"""The plan of the house, kept: layers, doors for third parties, names and sizes."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "amity"
TOP = 1000

# Third parties have one door each: only these files (or folders) may import them.
DOORS = {
    "llvmlite": ("codegen/llvm.py", "runtime/cpu/"),
    "torch": ("compat/",),
    "jax": (),
    "tensorflow": (),
}
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "base"}
PUBLIC_ELSEWHERE = {"nn/utils": "PyTorch's public name", "utils": "PyTorch's public name"}
MAX_FILE, MAX_FUNCTION = 500, 60

# Longer than the rule, each with its reason. Entries that are no longer needed fail the test.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}


def read_layers() -> dict[str, int]:
    rows = [line.split() for line in (PACKAGE / "LAYERS").read_text().splitlines()]
    rows = [row for row in rows if row and not row[0].startswith("#")]
    return {name: TOP if layer == "top" else int(layer) for name, layer in rows}


LAYERS = read_layers()
FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({p.relative_to(PACKAGE).parts[0] for p in FILES if p.parent != PACKAGE})


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def folder_of(path: Path) -> str | None:
    """The top folder of a file in amity/, or None for amity's own `__init__` and `__main__`."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


@cache
def parse(path: Path) -> tuple[ast.Module, list[str]]:
    text = path.read_text(encoding="utf-8")
    return ast.parse(text), text.splitlines()


def absolute(path: Path, node: ast.ImportFrom) -> str:
    """The dotted module that `from … import` names, with leading dots resolved."""
    if not node.level:
        return node.module or ""
    package = ("amity", *path.relative_to(PACKAGE).parts[:-1])
    stem = package[: len(package) - node.level + 1]
    return ".".join((*stem, node.module) if node.module else stem)


def imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Every (dotted name, statement) that a file imports, at any depth."""
    tree, _ = parse(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute(path, node)
            if module == "amity":  # `from amity import ops` names the folder ops
                yield from ((f"amity.{alias.name}", node) for alias in node.names)
            else:
                yield module, node


def test_every_folder_has_a_layer():
    assert not set(FOLDERS) - set(LAYERS), "add the folder to amity/LAYERS"


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_go_only_downward(folder):
    breaches = []
    for path in (p for p in FILES if folder_of(p) == folder):
        for name, node in imports(path):
            parts = name.split(".")
            if parts[0] != "amity":
                continue
            target = parts[1] if len(parts) > 1 else None
            if LAYERS[folder] == TOP or target == folder:
                continue
            if target not in LAYERS:
                what = f"the public name `{name}`; import it from the file that defines it"
            elif LAYERS[target] >= LAYERS[folder]:
                what = f"{name} (layer {LAYERS[target]}) from layer {LAYERS[folder]}"
            else:
                continue
            breaches.append(f"{name_of(path)}:{node.lineno} imports {what}")
    assert not breaches, "\n".join(breaches)


def test_nothing_imports_the_top():
    top = {name for name, layer in LAYERS.items() if layer == TOP}
    found = [
        f"{name_of(path)}:{node.lineno} imports {name}"
        for path in FILES
        if folder_of(path) not in top and path.name != "__main__.py"
        for name, node in imports(path)
        if name.split(".")[0] == "amity" and top & set(name.split(".")[1:2])
    ]
    assert not found, "\n".join(found)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_imports_inside_functions_say_why():
    found = set()
    for path in FILES:
        tree, lines = parse(path)
        for function in functions(tree):
            for node in ast.walk(function):
                if not isinstance(node, ast.Import | ast.ImportFrom):
                    continue
                statement = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                if not re.search(r"# lazy: \w+", statement):
                    found.add(f"{name_of(path)}:{node.lineno} {lines[node.lineno - 1].strip()}")
    assert not found, "mark with `# lazy: reason` or move up:\n" + "\n".join(sorted(found))


def test_third_parties_have_one_door():
    found = [
        f"{name_of(path)}:{node.lineno} imports {name}"
        for path in FILES
        for name, node in imports(path)
        if name.split(".")[0] in DOORS
        and not name_of(path).startswith(DOORS[name.split(".")[0]] or ("-",))
    ]
    assert not found, "\n".join(found)


def test_file_names_say_something():
    named = [p for p in PACKAGE.rglob("*") if p.stem in SAYS_NOTHING and p.suffix in ("", ".py")]
    new = {name_of(p) for p in named} - set(PUBLIC_ELSEWHERE)
    assert not new, f"name the noun that it defines: {sorted(new)}"


def test_files_are_short():
    long = {}
    for path in FILES:
        count = len(parse(path)[1])
        if count > MAX_FILE:
            long[name_of(path)] = count
    new = {name: count for name, count in long.items() if name not in LONG_FILES}
    assert not new, f"over {MAX_FILE} lines: {new}"
    assert not set(LONG_FILES) - set(long), "these are short again: take them off LONG_FILES"


def test_functions_are_short():
    long = {}
    for path in FILES:
        for node in functions(parse(path)[0]):
            count = (node.end_lineno or node.lineno) - node.lineno + 1
            if count > MAX_FUNCTION:
                long[f"{name_of(path)} {node.name}"] = count
    new = {name: count for name, count in long.items() if name not in LONG_FUNCTIONS}
    assert not new, f"over {MAX_FUNCTION} lines: {new}"
    assert not set(LONG_FUNCTIONS) - set(long), (
        "these are short again: take them off LONG_FUNCTIONS"
    )


def test_public_names_are_not_shadowed():
    """`amity/__init__.py` re-exports; what it defines itself would have no home."""
    tree, _ = parse(PACKAGE / "__init__.py")
    own = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    own -= {"__getattr__", "__dir__"}  # which may load a part when it is first named
    assert not own, f"define these in a folder and re-export them: {sorted(own)}"


def project_texts() -> Iterator[tuple[str, str]]:
    """(name, text) of every text file that belongs to the project."""
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        names = listed.splitlines()
    except (OSError, subprocess.CalledProcessError):  # an unpacked source archive has no git
        names = [p.relative_to(ROOT).as_posix() for p in FILES]
    for name in names:
        path = ROOT / name
        if path.is_file():
            data = path.read_bytes()
            if b"\0" not in data[:1024]:
                yield name, data.decode("utf-8")


def test_no_file_names_the_machine_it_was_written_on():
    places = {str(ROOT), str(ROOT.parent), str(Path.home())} - {"/", "/tmp", "/home", "/Users"}
    pattern = re.compile("|".join(rf"(?<![\w.]){re.escape(p)}(?![\w-])" for p in places))
    found = [
        f"{name}:{number} {line.strip()}"
        for name, text in project_texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_links_in_pages_lead_to_files_of_the_project():
    found = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            if "://" not in link and not (target.is_relative_to(ROOT) and target.exists()):
                found.append(f"{page.relative_to(ROOT)} links to {link}")
    assert not found, "\n".join(found)
