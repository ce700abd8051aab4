"""Log lines on a descriptor: whole, in order, or counted as lost; and nobody waits."""

import contextlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_inference.outlet import NOTICE, Outlet
from aiops_inference.telemetry import Log

PIPE = 64 << 10  # what a pipe holds before a plain write waits


@contextlib.contextmanager
def pipe():
    """Both ends of a pipe whose writing end would wait, as a container's stdout."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def drained(reader):
    """All that is in the pipe."""
    found = b""
    with contextlib.suppress(BlockingIOError):
        while more := os.read(reader, 1 << 20):
            found += more
    return found


def test_lines_are_there_at_once():
    """Nothing is held back where somebody reads."""
    with pipe() as (reader, writer):
        outlet = Outlet(writer)
        outlet.write(b"one\n")
        assert b"one\n" == drained(reader)
        outlet.write(b"two\n" + b"x" * 20_000 + b"\n")
        assert b"two\n" + b"x" * 20_000 + b"\n" == drained(reader)
        assert 0 == outlet.lost


def test_a_reader_that_stopped_is_not_waited_for():
    """What it left waits, what there is no room for is counted, and when it reads again all that was kept comes."""
    with pipe() as (reader, writer):
        outlet = Outlet(writer, most_waiting=10_000)
        lines = [b"%05d %b\n" % (i, b"x" * 93) for i in range(1000)]
        for line in lines:
            outlet.write(line)
        lost = outlet.lost
        found = drained(reader)
        outlet.flush()
        outlet.write(b"again\n")
        found += drained(reader)
    kept = [line for line in found.splitlines(keepends=True) if not line.startswith(NOTICE)]
    assert [*lines[: len(lines) - lost], b"again\n"] == kept
    assert (PIPE + 10_000) // 100 - 60 < len(lines) - lost < len(lines)
    assert found.endswith(b"%b%d}\nagain\n" % (NOTICE, lost))


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 9000), st.booleans()),
        min_size=1,
        max_size=60,
    )
)
def test_every_line_is_whole_or_counted(steps):
    """Whatever sizes come and whenever somebody reads."""
    with pipe() as (reader, writer):
        outlet = Outlet(writer, most_waiting=20_000)
        found, written = b"", 0
        for count, size, read in steps:
            outlet.write(b"".join(b"<%b>\n" % (b"x" * size) for _ in range(count)))
            written += count
            if read:
                found += drained(reader)
        outlet.flush()
        while more := drained(reader):
            found += more
            outlet.flush()
    lines = [line for line in found.splitlines() if not line.startswith(NOTICE)]
    assert written == len(lines) + outlet.lost
    assert all(line.startswith(b"<") and line.endswith(b">") for line in lines)


def test_lines_of_two_processes_do_not_mix():
    """Though both write to a pipe that is full again and again: what is left of either begins with a line."""
    with pipe() as (reader, writer):
        outlets, found = [Outlet(writer), Outlet(writer)], b""
        for _ in range(100):
            for name, outlet in zip((b"a", b"b"), outlets, strict=True):
                outlet.write(b"<%b>\n" % (name * 300) * 20)
            if len(found) % 2 == 0:
                found += drained(reader)
        for outlet in outlets * 20:
            outlet.flush()
            found += drained(reader)
    assert {b"<%b>" % (b"a" * 300), b"<%b>" % (b"b" * 300)} == set(found.splitlines())
    assert 4000 == len(found.splitlines())


def test_a_full_disk_loses_lines_and_nothing_else():
    """Each is counted, and none is raised."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        outlet = Outlet(descriptor)
        for i in range(5):
            outlet.write(b"line %d\n" % i)
        outlet.write(b"two\nmore\n")
        assert 7 == outlet.lost
    finally:
        os.close(descriptor)


def test_a_line_that_was_cut_does_not_swallow_the_next(tmp_path, monkeypatch):
    """A disk that is full in the middle of a line, and free again afterwards."""
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    write = os.write
    outlet = Outlet(descriptor)
    try:
        results = [3, OSError(28, "No space left on device")]

        def full(to, data):
            result = results.pop(0)
            if isinstance(result, OSError):
                raise result
            return write(to, data[:result])

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            outlet.write(b"first\n")
        outlet.write(b"second\n")
    finally:
        os.close(descriptor)
    assert b"fir\n%b1}\nsecond\n" % NOTICE == (tmp_path / "log").read_bytes()
    assert 1 == outlet.lost


def test_a_pipe_that_nobody_holds_loses_lines_and_nothing_else():
    """The reader is gone for good."""
    reader, writer = os.pipe()
    os.close(reader)
    outlet = Outlet(writer)
    outlet.write(b"line\n")
    os.close(writer)
    outlet.write(b"line\n")
    assert 2 == outlet.lost


def test_the_line_that_tells_of_losses_can_be_read_by_a_machine():
    """It has the form of all others."""
    level, _, rest = (NOTICE + b"7}").decode().partition(" ")
    assert ("WARNING", {"event": "log lines dropped", "total": 7}) == (level, json.loads(rest))


def test_a_log_counts_what_its_stream_lost(tmp_path):
    """A stream that refuses, whichever kind it is."""
    with (tmp_path / "closed").open("wb") as stream:
        log = Log(stream=stream)
        log.info("x")
    log.info("y")
    with log.together():
        log.info("y")
        log.info("z")
    assert 3 == log.dropped


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8192, 100_000])
def test_long_lines_go_in_pieces(size):
    """A line longer than a pipe waits for its reader."""
    with pipe() as (reader, writer):
        outlet = Outlet(writer)
        outlet.write(b"x" * size + b"\n")
        found = b""
        while more := drained(reader):
            found += more
            outlet.flush()
    assert b"x" * size + b"\n" == found
