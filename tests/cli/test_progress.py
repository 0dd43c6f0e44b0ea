"""The progress line, on a terminal and elsewhere."""

import io

import pytest

from amity.cli.progress import Progress, clock


class Stream(io.StringIO):
    def __init__(self, live=False, encoding="utf-8"):
        super().__init__()
        self.live, self.name_of_encoding = live, encoding

    def isatty(self):
        return self.live

    @property
    def encoding(self):
        return self.name_of_encoding


class Clock:
    """Time that a test moves by hand."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def walk(stream, steps=20, seconds=1.0, **options):
    now = Clock()
    progress = Progress(steps * 10, stream, now=now, **options)
    for _ in range(steps):
        now.seconds += seconds
        progress.advance(10, "epoch 1/1", "loss 0.500  acc 50.0%")
    return stream.getvalue()


def test_plain_lines_come_every_five_seconds():
    lines = walk(Stream()).splitlines()
    assert len(lines) == 4
    assert lines[0] == "epoch 1/1   25%  loss 0.500  acc 50.0%  10 images/s  ETA 0:15"
    assert lines[-1] == "epoch 1/1  100%  loss 0.500  acc 50.0%  10 images/s  ETA 0:00"


def test_a_terminal_is_redrawn_on_one_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text = walk(Stream(live=True))
    assert "\n" not in text
    drawn = text.split("\r\x1b[2K")[1:]
    assert len(drawn) == 20
    assert [line.count("━") for line in drawn[::5]] == [2, 9, 16, 24]
    assert all(len(line) < 120 for line in drawn)


@pytest.mark.parametrize("columns", ["20", "60", "80", "300"])
def test_a_line_never_wraps(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    drawn = walk(Stream(live=True)).split("\r\x1b[2K")[1:]
    assert drawn and all(len(line) < int(columns) for line in drawn)


def test_a_terminal_is_redrawn_at_most_ten_times_a_second():
    text = walk(Stream(live=True), steps=200, seconds=0.01)
    assert 15 <= text.count("\r") <= 20


def test_ascii_where_the_stream_knows_no_more(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert "###---" in walk(Stream(live=True, encoding="ascii"))


def test_quiet_says_nothing():
    assert walk(Stream(), quiet=True) == walk(Stream(live=True), quiet=True) == ""


def test_print_wipes_the_live_line():
    stream = Stream(live=True)
    Progress(10, stream).print("done")
    assert stream.getvalue() == "\r\x1b[2Kdone\n"


def test_a_slow_start_is_forgotten():
    now = Clock()
    progress = Progress(1000, Stream(), now=now)
    for seconds in (60.0, *[1.0] * 20):
        now.seconds += seconds
        progress.advance(10, "", "")
    assert progress.speed() == "10 images/s  ETA 1:19"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3601, "60:01")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text
