"""Every example in a docstring and in the README runs, and prints what it says."""

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import amity

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "amity").rglob("*.py")
    if path.name != "__main__.py" and ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    told: list[str] = []
    for example in finder.find(module, name, extraglobs={"amity": amity}):
        amity.manual_seed(0)
        runner.run(example, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)
    assert runner.tries > 0, f"doctest finds no example in {name}"


def test_readme():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_tour():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "tour.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "the derivative's graph" in done.stdout and "float32" in done.stdout
    assert "backward from docs/tour.py" in done.stdout and "nothing found" in done.stdout


def test_readme_commands_are_the_two_of_the_project():
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert commands == ["pip install . && amity demo\n", "pip install '.[test]' && pytest\n"]
