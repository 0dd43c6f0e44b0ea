"""The search for what makes results wrong: programs in which something was made wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from amity.tools import bisect

PROGRAM = """
import amity

@amity.compile
def f(x, y):
    a = (x + y).exp()
    b = a.sin() * a  # product
    return b.sum(), b

def main():
    for _ in range(3):
        f(amity.arange(5.0), amity.ones(5))
"""

WRONG_PASS = '''
from amity.compiler import pipeline
from amity.ir.graph import Graph, Node
from amity.ops.record import REGISTRY

def wrong(graph):
    """Sine becomes cosine."""
    table = {n: n for n in graph.inputs}
    for n in graph.nodes():
        op = REGISTRY["cos"]() if n.op is not None and n.op.name == "sin" else n.op
        inputs = [table[x] for x in n.inputs]
        table.setdefault(n, n if op is None else Node(op, inputs, n.spec, n.index, n.where))
    return Graph(graph.inputs, [table[o] for o in graph.outputs])

pipeline.PASSES = (*pipeline.PASSES, pipeline.Pass("confuse", "sines become cosines", wrong))
'''

WRONG_FUSION = """
from amity.compiler.group import Group

inner = Group.add_pointwise

def wrong(self, node, axes, read):
    if self.nodes and node.op.name == "mul":  # takes another operand than it should
        self.value[id(node.inputs[0])] = self.value[id(self.nodes[0])]
    return inner(self, node, axes, read)

Group.add_pointwise = wrong
"""

WRONG_LOWERING = """
from amity.engine import program

inner = program.lower_here

def wrong(graph, *how):
    out = inner(graph, *how)
    for step in out.steps:
        if "sum" in step.label:
            step.meta = [step.meta[0], step.meta[1] - 1, *step.meta[2:]]  # one element is left out
    return out

program.lower_here = wrong
"""


def run(tmp_path: Path, defect: str, *arguments: str) -> tuple[int, str]:
    """Bisect a program that has some defect: exit code and words. Nothing is kept of its kernels."""
    (tmp_path / "script.py").write_text(
        defect + PROGRAM + 'if __name__ == "__main__":\n    main()\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "amity.tools.bisect", *arguments],
        env=os.environ | {"AMITY_CACHE_DIR": str(tmp_path / "cache")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "defect, step, node, line",
    [
        (WRONG_PASS, "confuse (sines become", "= cos(", "a.sin()"),
        (WRONG_FUSION, "fuse (pointwise", "= mul(", "# product"),
        (WRONG_LOWERING, "none; it is wrong with all", "= sum(", "b.sum()"),
    ],
    ids=["pass", "fusion", "lowering"],
)
def test_first_pass_and_first_node(tmp_path, defect, step, node, line):
    code, text = run(tmp_path, defect, "script.py")
    assert code == 1, text
    script = (tmp_path / "script.py").read_text().splitlines()
    number = 1 + next(i for i, s in enumerate(script) if line in s)
    assert f"\npass: {step}" in text
    found = next(s for s in text.splitlines() if s.startswith("node: "))
    assert node in found and found.endswith(f"script.py:{number}")


def test_right_programs_and_functions(tmp_path):
    code, text = run(tmp_path, "", "script.py", "argument")
    assert code == 0 and "Programs give what NumPy gives" in text
    code, text = run(tmp_path, WRONG_PASS, "script:main")
    assert code == 1 and "pass: confuse" in text


def test_usage(capsys):
    assert bisect.main(["--help"]) == 0 and bisect.main([]) == 2
    assert "usage: python -m amity.tools.bisect" in capsys.readouterr().out
