"""Profiles: what they see of eager and compiled calls, that they change nothing, and their files."""

from __future__ import annotations

import gzip
import json
import threading
import warnings
from itertools import pairwise

import pytest

import amity
from amity import nn
from amity.engine import device, program
from amity.profiler import (
    ProfilerAction,
    ProfilerActivity,
    profile,
    record_function,
    schedule,
    supported_activities,
    tensorboard_trace_handler,
)


def calls(p):
    """The names of the calls that a profile saw, in order."""
    return [e.name for e in p.events() if e.kind == "cpu_op"]


def training(wrap=lambda f: f, watched=0):
    amity.manual_seed(3)
    m = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    optimizer = amity.optim.AdamW(m.parameters())
    x, y = amity.randn(5, 2, 6, 6), amity.tensor([0, 1, 2, 0, 1])

    def step():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(m(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step = wrap(step)
    losses = [step().item() for _ in range(2)]
    with profile() as p:
        losses += [step().item() for _ in range(watched)]
    losses += [step().item() for _ in range(4 - watched)]
    return losses, [t._version for t in m.parameters()], p


def test_calls_and_their_kernels():
    x, g = amity.randn(40, 30, requires_grad=True), amity.ones(())
    with profile() as p:
        y = (x * 2).softmax(-1)
        (y @ y.t()).sum().backward(g)
    assert calls(p) == [
        "mul", "softmax", "matmul", "sum", "SumBackward0", "MatmulBackward0",
        "PermuteBackward0", "add", "SoftmaxBackward0", "MulBackward0",
    ]  # fmt: skip
    for op in p.events():
        assert op.end >= op.start and op.self_cpu_time_total >= 0
        if op.kind == "cpu_op" and op.name not in ("SumBackward0", "PermuteBackward0"):  # views
            assert op.cpu_children and all(k.kind == "kernel" for k in op.cpu_children)
        for k in op.cpu_children:
            assert k.cpu_parent is op and op.start <= k.start <= k.end <= op.end
    a = amity.randn(400, 400)
    with profile() as p:
        a @ a
    op, *kernels = p.events()
    assert sum(k.cpu_time_total for k in kernels) > op.self_cpu_time_total


def test_nothing_but_time_is_changed():
    plain, versions, _ = training()
    watched, same, p = training(watched=4)
    assert plain == watched and versions == same
    names = set(calls(p))
    assert {"convolution", "batch_norm_train", "relu", "linear", "cross_entropy"} < names
    assert {"ConvolutionBackward0", "LinearBackward0", "optim.adam.adam"} < names
    compiled, same, _ = training(amity.compile)
    again, versions, p = training(amity.compile, watched=3)
    assert compiled == again and versions == same
    rows = {r.key: r for r in p.key_averages()}
    segment = next(r for name, r in rows.items() if name.startswith("segment"))
    assert segment.count == 3 and "convolution" not in rows and len(rows) > 5
    assert sum(e.name.startswith("conv_") for e in p.events()) >= 3


def test_what_writes_in_place_is_counted_once():
    x = amity.ones(3)
    y = x[1:]
    with profile(record_shapes=True) as p:
        y.add_(1)
        x.mul_(2)
        x.copy_(amity.zeros(3))
    assert x._version == 3 and x.tolist() == [0, 0, 0]
    assert [n for n in calls(p) if n.endswith("_")] == ["add_", "mul_", "copy_"]


def test_calls_of_numpy_are_seen_and_views_are_not():
    x = amity.randn(6, 6)
    with profile(profile_memory=True) as p:
        x.t()[::2].unsqueeze(0)
        q = amity.linalg.qr(x)
    assert calls(p) == ["linalg_qr"] and p.events()[0].memory == q[0].nbytes + q[1].nbytes
    assert not p.events()[0].cpu_children


def test_shapes_memory_stacks_and_flops():
    a, b = amity.ones(4, 5), amity.ones(5, 6)
    x, w = amity.ones(2, 4, 8, 8), amity.ones(6, 2, 3, 3)

    def work():
        return a @ b, nn.functional.conv2d(x, w, groups=2), a * 2.5, a.double()

    with profile(record_shapes=True, profile_memory=True, with_stack=True, with_flops=True) as p:
        work()
    seen = {e.name: e for e in p.events() if e.kind == "cpu_op"}
    assert seen["matmul"].input_shapes == [[4, 5], [5, 6]]
    assert seen["mul"].input_shapes == [[4, 5], []]
    assert seen["mul"].input_types == ["float32", "Scalar"]
    assert [seen[n].memory for n in ("matmul", "mul", "cast")] == [96, 80, 160]
    assert seen["matmul"].flops == 2 * 4 * 5 * 6
    assert seen["convolution"].flops == 2 * (2 * 6 * 6 * 6) * (2 * 3 * 3)
    line = work.__code__.co_firstlineno + 1
    assert seen["mul"].stack[0] == f"{__file__}({line}): work"
    assert "test_shapes_memory_stacks_and_flops" in seen["mul"].stack[1]
    rows = p.key_averages(group_by_input_shape=True, group_by_stack_n=1)
    text = rows.table(sort_by="cpu_memory_usage")
    for word in ("Input Shapes", "[[4, 5], [5, 6]]", "CPU Mem", "96 B", "Total FLOPs", "): work"):
        assert word in text
    with profile() as p:
        work()
    assert not any(e.input_shapes or e.memory or e.stack or e.flops for e in p.events())


def test_ranges():
    @record_function("decorated")
    def f(x):
        return x + 1

    f(amity.ones(2))  # no profile: nothing
    with profile() as p:
        with record_function("outer"), record_function("inner"):
            f(amity.ones(2))
        with pytest.raises(ZeroDivisionError), record_function("failed"):
            1 / 0  # noqa: B018
        f(amity.ones(2))
    events = {e.name: e for e in p.events()}
    assert events["inner"].cpu_parent is events["outer"] and events["outer"].cpu_parent is None
    rows = {r.key: r for r in p.key_averages()}
    assert rows["decorated"].count == 2 and rows["decorated"].is_user_annotation
    assert rows["add"].count == 2 and not rows["add"].is_user_annotation
    outer = rows["outer"]
    assert outer.cpu_time_total >= outer.self_cpu_time_total + rows["inner"].self_cpu_time_total
    assert rows["failed"].count == 1


def test_recursion_counts_time_once():
    @record_function("again")
    def f(n):
        return f(n - 1) if n else amity.ones(2) + 1

    with profile() as p:
        f(3)
    row = next(r for r in p.key_averages() if r.key == "again")
    assert row.count == 4 and row.cpu_time_total == p.events()[0].cpu_time_total


def test_schedules_are_pytorchs():
    torch = pytest.importorskip("torch")
    for settings in (
        {"wait": 1, "warmup": 1, "active": 2},
        {"wait": 0, "warmup": 1, "active": 1, "repeat": 2, "skip_first": 3},
        {"wait": 2, "warmup": 3, "active": 3, "repeat": 1},
        {"wait": 3, "warmup": 1, "active": 1, "skip_first": 2, "skip_first_wait": 1},
    ):
        ours, theirs = schedule(**settings), torch.profiler.schedule(**settings)
        assert [ours(i).name for i in range(30)] == [theirs(i).name for i in range(30)]
    for lib in (schedule, torch.profiler.schedule):
        with pytest.raises(AssertionError, match="Invalid profiler schedule"):
            lib(wait=0, warmup=1, active=0)
        with pytest.warns(UserWarning, match="skew"):
            lib(wait=0, warmup=0, active=1)


def test_steps_and_rounds():
    ready = []
    with profile(schedule=schedule(wait=1, warmup=1, active=2), on_trace_ready=ready.append) as p:
        for i in range(10):
            with record_function(f"work {i}"):
                amity.ones(2) + i
            if len(ready) and p.step_num in (4, 8):
                found = [e.name for e in p.events() if e.is_user_annotation]
                at = p.step_num - 2
                expected = [f"ProfilerStep#{at}", f"work {at}"]
                assert found == expected + [f"ProfilerStep#{at + 1}", f"work {at + 1}"]
            p.step()
    assert len(ready) == 3  # two whole rounds, and what the end cut off
    assert p.step_num == 10 and p.current_action is ProfilerAction.RECORD


def test_a_whole_profile_is_ready_once_at_its_end():
    ready = []
    with profile(on_trace_ready=ready.append) as p:
        amity.ones(2) + 1
        p.step()
        amity.ones(2) * 1
        assert not ready
    assert ready == [p] and calls(p) == ["ones", "add", "ones", "mul"]


def test_events_of_all_rounds():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        todo = schedule(wait=1, warmup=0, active=1)
    with profile(schedule=todo, acc_events=True) as p:
        for i in range(6):
            with record_function(f"work {i}"):
                pass
            p.step()
    names = [e.name for e in p.events() if e.name[0] == "w"]
    assert names == ["work 1", "work 3", "work 5"]
    assert all(e.start >= p.watch.began for e in p.events())


def test_the_trace_file(tmp_path):
    with profile(record_shapes=True, with_stack=True) as p, record_function('a "name"'):
        x = amity.ones(3, 4) * 2
        x.softmax(-1).sort()
        worker = threading.Thread(target=lambda: record_function("elsewhere").__enter__())
        worker.start()
        worker.join()
    p.add_metadata("who", "me")
    p.add_metadata_json("sizes", "[1, 2]")
    for name, reader in (("t.json", open), ("t.json.gz", gzip.open)):
        p.export_chrome_trace(tmp_path / name)
        with reader(tmp_path / name) as file:
            trace = json.load(file)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["t.json", "t.json.gz"]
    assert trace["who"] == "me" and trace["sizes"] == [1, 2] and trace["record_shapes"] == 1
    rows = trace["traceEvents"]
    meta = [r for r in rows if r["ph"] == "M"]
    assert {r["name"] for r in meta} == {"process_name", "thread_name"}
    events = [r for r in rows if r["ph"] == "X"]
    assert len(meta) + len(events) == len(rows) and len(events) == len(p.events())
    assert {r["cat"] for r in events} == {"cpu_op", "kernel", "user_annotation"}
    for r in events:
        assert isinstance(r["ts"], float) and r["ts"] >= 0 and r["dur"] >= 0
        assert 0 < r["tid"] < 1 << 31 and isinstance(r["pid"], int)
    for tid in {r["tid"] for r in events}:  # slices of a thread nest, or viewers drop some
        ends = []
        for r in (r for r in events if r["tid"] == tid):
            while ends and ends[-1] <= r["ts"]:
                ends.pop()
            assert not ends or r["ts"] + r["dur"] <= ends[-1] + 1e-3
            ends.append(r["ts"] + r["dur"])
    assert [a["ts"] <= b["ts"] for a, b in pairwise(events)].count(False) == 0
    softmax = next(r for r in events if r["name"] == "softmax")
    assert (
        softmax["args"]["Input Dims"] == [[3, 4]]
        and "test_profiler" in softmax["args"]["Call stack"]
    )
    assert {r["name"] for r in events} > {"elsewhere", 'a "name"', "sort"}


def test_a_handler_for_tensorboard(tmp_path):
    with profile(on_trace_ready=tensorboard_trace_handler(tmp_path / "logs", "w", use_gzip=True)):
        amity.ones(2) + 1
    (file,) = (tmp_path / "logs").iterdir()
    assert file.name.startswith("w.") and file.name.endswith(".pt.trace.json.gz")
    with gzip.open(file) as data:
        assert json.load(data)["traceEvents"]


def test_stacks(tmp_path):
    with profile(with_stack=True) as p:
        amity.randn(300, 300) @ amity.randn(300, 300)
    p.export_stacks(tmp_path / "stacks")
    line = next(n for n in (tmp_path / "stacks").read_text().splitlines() if " matmul" not in n)
    frames, _, count = line.rpartition(" ")
    assert int(count) > 0 and frames.split(";")[-2].endswith("test_stacks")
    with pytest.raises(ValueError, match="export_stacks: got 'self_cuda"):
        p.export_stacks(tmp_path / "stacks", "self_cuda_time_total")


def test_tables():
    with profile() as p:
        for _ in range(3):
            amity.ones(200, 200).exp()
        amity.ones(2) + 1
    rows = p.key_averages()
    lines = rows.table(sort_by="count", row_limit=2).splitlines()
    assert len(lines) == 3 + 2 + 2 and "Self CPU time total" in lines[-1]
    counts = [int(line.split()[-1]) for line in lines[3:5]]
    assert counts == sorted((r.count for r in rows), reverse=True)[:2]
    assert rows.table(header="Heading").startswith("Heading\n") and str(rows) == rows.table()
    assert "ms" not in rows.table(time_unit="us") and "us" not in rows.table(time_unit="ms")
    assert rows.total_average().count == sum(r.count for r in rows)
    assert rows.self_cpu_time_total == pytest.approx(sum(e.self_cpu_time_total for e in p.events()))
    top = p.events().table(top_level_events_only=True)
    assert "exp" in top and not any(e.name in top for e in p.events() if e.kind == "kernel")
    with pytest.raises(AttributeError, match="table: got sort_by='speed'"):
        rows.table(sort_by="speed")


def test_nothing_is_left_behind():
    plain = program.HostProgram.__call__
    with pytest.raises(ZeroDivisionError), profile() as p:
        1 / 0  # noqa: B018
    assert program.HostProgram.__call__ is plain
    amity.ones(2) + 1
    assert not p.events() and device._state["watch"][0] is None
    p.stop()


def test_other_threads():
    x = amity.ones(2)
    f = amity.compile(lambda x: (x * 2).relu())
    with profile() as p:
        x + 1
        for work in (lambda: x * 3, lambda: f(x)):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        x - 1
    assert calls(p) == ["add", "sub"]


def test_errors():
    with profile(), pytest.raises(RuntimeError, match="profile: got a second profile"):
        profile().start()
    with pytest.raises(ValueError, match="profile: got CUDA"):
        profile(activities=[ProfilerActivity.CUDA])
    with pytest.raises(RuntimeError, match="step: got a profile that does not run"):
        profile().step()
    with pytest.raises(AssertionError, match="recorded nothing"):
        profile().key_averages()
    assert supported_activities() == {ProfilerActivity.CPU}


def test_kernels_memory_lines_and_flops_of_compiled_calls():
    m = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 8))

    @amity.compile
    def f(x):
        y = m(x)  # products
        return y.exp(), y.sum()  # and what is made of them

    x = amity.randn(16, 256)
    for _ in range(3):
        expected = f(x)
    with profile(profile_memory=True, with_stack=True, with_flops=True) as p:
        made = f(x)
    assert [t.tolist() for t in made] == [t.tolist() for t in expected]
    (call,) = [e for e in p.events() if e.kind == "cpu_op"]
    assert call.name.startswith("segment") and call.memory >= 4 * (16 * 8 + 1)
    assert call.flops == 2 * 16 * (256 * 256 + 256 * 8)
    kernels = [e for e in p.events() if e.kind == "kernel"]
    assert len(kernels) >= 3 and all(k.cpu_parent is call and k.end > k.start for k in kernels)
    first = f.function.__code__.co_firstlineno
    lines = {k.stack[0].rpartition(":")[2] for k in kernels if k.stack}
    assert lines == {str(first + 2), str(first + 3)}
    assert f"{kernels[-1].name}" in p.key_averages().table()
