"""Drift counts over the ends of processes: every block at most once, and what was saved or reported exactly once."""

import asyncio
import contextlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops_drift import Expectations, Profile, advance
from aiops_inference import state
from aiops_inference.monitor import Monitor
from aiops_inference.settings import RuntimeSettings
from aiops_inference.state import Keeper, StateFile, restored
from aiops_inference.telemetry import Log, Metrics

RNG = np.random.default_rng(3)
PROFILE = Profile.from_rows(RNG.normal(size=(100, 1)), ["a"])
MODEL = "sha256:" + "3f" * 32


class Process:
    """What one process of a pod has: a monitor, the file, and what it logged."""

    def __init__(self, path, profile=PROFILE, model=MODEL):
        self.stream = io.BytesIO()
        self.metrics = Metrics()
        log = Log(stream=self.stream)
        self.file = StateFile(path)
        recorder = restored(self.file, profile, model, log)
        self.monitor = Monitor(profile, model, RuntimeSettings(), recorder=recorder)
        self.keeper = Keeper(self.monitor, self.file, self.metrics, log)
        self.restored = recorder is not None

    async def report(self, after=-1):
        """What GET /drift answers."""
        return await self.keeper.report(Expectations(), after)

    def saves(self, result):
        """How many came out like that."""
        return self.metrics.registry.get_sample_value("drift_state_saves_total", {"result": result})

    def lines(self):
        """Level and message of each line of the log."""
        found = [line.partition(" ") for line in self.stream.getvalue().decode().splitlines()]
        return [(level, json.loads(fields)["message"]) for level, _, fields in found]

    def kill(self):
        """End as a process does that is killed: the kernel closes its files."""
        self.file.close()


@contextlib.contextmanager
def nothing_can_be_written(path):
    """As on a disk that is full: a new file cannot be made, and the old one can be removed."""
    blocked = path.with_name(path.name + ".new")
    blocked.mkdir()
    try:
        yield
    finally:
        blocked.rmdir()


@contextlib.contextmanager
def nothing_can_be_changed(path):
    """As on a disk that has become read-only: what is there stays."""
    aside = path.parent.with_name("aside")
    path.parent.rename(aside)
    path.parent.touch()
    try:
        yield
    finally:
        path.parent.unlink()
        aside.rename(path.parent)


class PodAndPoller:
    """Any order of rows, polls, saves, faults of the disk and ends of the process.

    Each request closes one block at most, and its time names that block. `here` are the blocks that the process
    answers for, `on_disk` those of the file and whose they are: what a poll must have given in the end.
    """

    def __init__(self):
        self.home = Path(tempfile.mkdtemp())
        self.path = self.home / "state" / "state.json"
        self.runner = asyncio.Runner()
        self.fault = contextlib.ExitStack()
        self.broken = ""
        self.clock = 0
        self.cursors, self.counted, self.rows = {}, [], 0
        self.heard = None
        self.here, self.on_disk = [], None
        self.process = Process(self.path)

    def count(self, rows=16):
        """A request."""
        closed = self.process.monitor.closed
        self.clock += 1
        self.process.monitor.observe(RNG.normal(size=(rows, 1)), float(self.clock))
        if self.process.monitor.closed > closed:
            self.here.append(self.clock)

    def count_few(self):
        """A request that closes no block, or not with all of its rows."""
        self.count(5)

    def poll(self):
        """A report of what is new."""
        self._hear(self._asked())

    def poll_all(self):
        """A report of all that is kept."""
        self._hear(self._saved(self.process.report()))

    def poll_in_vain(self):
        """A report that is lost on its way."""
        self._asked()

    def hear_again(self):
        """The report that came last comes once more."""
        if self.heard is not None:
            self._hear(self.heard)

    def save(self):
        """The save that nobody waits for."""
        self._saved(self.process.keeper.save())

    def kill(self):
        """No warning, and another process in the same pod."""
        self.process.kill()
        self._start_again()

    def kill_and_repair(self):
        """No warning, and the next process finds a disk that can be written."""
        self.repair_disk()
        self.kill()

    def stop(self):
        """SIGTERM, and another process in the same pod."""
        self._saved(self.process.keeper.stop())
        self._start_again()

    def fill_disk(self):
        """From now on no save works."""
        self._break(nothing_can_be_written)

    def lock_disk(self):
        """From now on no save works, nor can the old file be removed."""
        self._break(nothing_can_be_changed)

    def repair_disk(self):
        """Saves work again."""
        self.fault.close()
        self.broken = ""

    def _break(self, fault):
        if not self.broken and self.path.parent.is_dir():
            self.fault.enter_context(fault(self.path))
            self.broken = fault.__name__

    def _asked(self):
        known = self.cursors.get(self.process.monitor.stored(0.0).report.incarnation)
        return self._saved(self.process.report(known.number if known else -1))

    def _saved(self, work):
        """Have something done that may save, and follow what the file then holds."""
        before = self.process.saves("saved"), self.process.saves("failed")
        incarnation = self.process.monitor.stored(0.0).report.incarnation
        answer = self.runner.run(work)
        saved, failed = self.process.saves("saved") - before[0], self.process.saves("failed") - before[1]
        assert saved + failed <= 1
        assert not (saved and self.broken)
        if saved:
            self.on_disk = incarnation, list(self.here)
        elif failed and self.on_disk and self.on_disk[0] == incarnation:
            if self.broken == "nothing_can_be_written":
                self.on_disk = None
            elif self.on_disk[1] != self.here:
                self.here = [block for block in self.here if block not in self.on_disk[1]]
        return answer

    def _hear(self, report):
        self.heard = report
        self.cursors[report.incarnation], blocks = advance(self.cursors.get(report.incarnation), report)
        self.counted += [block.closed for block in blocks]
        self.rows += sum(block.counts.n for block in blocks)

    def _start_again(self):
        self.process = Process(self.path)
        assert self.process.restored == (self.on_disk is not None and self.broken != "nothing_can_be_changed")
        self.here = list(self.on_disk[1]) if self.process.restored else []

    def nothing_is_counted_twice(self):
        """No block, and no row beside the blocks."""
        assert len(self.counted) == len(set(self.counted))
        assert 16 * len(self.counted) == self.rows

    def close(self):
        """Leave nothing behind."""
        self.process.kill()
        self.fault.close()
        self.runner.close()
        shutil.rmtree(self.home)


P = PodAndPoller
EVENTS = [P.count] * 6 + [P.count_few, P.poll, P.poll, P.poll_all, P.poll_in_vain, P.hear_again, P.save, P.save]
EVENTS += [P.kill, P.kill_and_repair, P.stop, P.fill_disk, P.lock_disk, P.lock_disk, P.repair_disk]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(EVENTS), min_size=25, max_size=50))
def test_any_order_of_events_counts_each_block_once(events):
    """No block twice at any time, and after one more poll all that the last process answers for."""
    with contextlib.closing(PodAndPoller()) as world:
        for event in [*events, P.poll]:
            event(world)
            world.nothing_is_counted_twice()
        assert set(world.here) <= set(world.counted)


def rows(blocks):
    """As many as fill so many blocks."""
    return RNG.normal(size=(16 * blocks, 1))


def polled(report, cursor=None):
    """Numbers of the blocks that are new in a report, and the cursor then."""
    cursor, blocks = advance(cursor, report)
    return [block.number for block in blocks], cursor


@pytest.fixture
def path(tmp_path):
    """Where the file is: in a directory that is not there yet."""
    return tmp_path / "state" / "state.json"


def test_what_was_reported_is_there_after_a_kill(path):
    """The file holds a report's blocks before anybody has it, and the numbers of what was not reported are free."""

    async def scenario():
        first = Process(path)
        first.monitor.observe(rows(3), 1.0)
        heard, cursor = polled(await first.report())
        first.monitor.observe(rows(2), 2.0)  # nobody hears of these
        first.kill()
        second = Process(path)
        second.monitor.observe(rows(4), 3.0)
        later, _ = polled(await second.report(after=cursor.number), cursor)
        return first, second, heard, later

    first, second, heard, later = asyncio.run(scenario())
    assert ([0, 1, 2], [3, 4, 5, 6]) == (heard, later)
    assert 112 == second.monitor.rows
    assert [("INFO", f"{path} is restored: counts go on")] == second.lines()
    assert (1.0, 0.0) == (first.saves("saved"), first.saves("failed"))
    assert (0o600, 0o700) == (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777)


def test_an_orderly_end_keeps_the_open_block_too(path):
    """The rows that wait for a block to be full are those of the next process."""

    async def scenario():
        first = Process(path)
        first.monitor.observe(RNG.normal(size=(20, 1)), 1.0)
        await first.keeper.stop()
        second = Process(path)
        second.monitor.observe(RNG.normal(size=(12, 1)), 2.0)
        return await first.report(), await second.report()

    before, after = asyncio.run(scenario())
    assert (20, 32, 2) == (before.rows, after.rows, len(after.blocks))
    assert before.incarnation == after.incarnation


def test_a_full_disk_takes_nothing_but_the_restart(path):
    """One line, a counter, and the report goes on; the stale file is gone, so the next process begins anew."""

    async def scenario():
        process = Process(path)
        process.monitor.observe(rows(2), 1.0)
        first = await process.report()
        with nothing_can_be_written(path):
            process.monitor.observe(rows(2), 2.0)
            seen = [await process.report(), await process.report()]
            gone = not path.exists()
        process.monitor.observe(rows(1), 3.0)
        return process, first, seen, gone, await process.report()

    process, first, seen, gone, last = asyncio.run(scenario())
    assert [first.incarnation] * 3 == [report.incarnation for report in (*seen, last)]
    assert ([4, 4], 5, True, True) == ([len(report.blocks) for report in seen], len(last.blocks), gone, path.exists())
    assert (2.0, 2.0) == (process.saves("saved"), process.saves("failed"))
    failed, again = process.lines()
    assert ("INFO", f"{path} is written again") == again
    assert "WARNING" == failed[0]
    assert failed[1].startswith(f"{path} cannot be written, the counts end with this process: ")


def test_a_disk_that_has_become_read_only_splits_the_counts(path):
    """What the file holds stays its incarnation's; what it does not hold is reported under another, and all of it once."""

    async def scenario():
        process = Process(path)
        process.monitor.observe(rows(2), 1.0)
        first = await process.report()
        process.monitor.observe(rows(1), 2.0)
        await process.keeper.save()
        with nothing_can_be_changed(path):
            process.monitor.observe(rows(3), 3.0)
            second = await process.report()
        process.kill()
        return first, second, await Process(path).report()

    first, second, third = asyncio.run(scenario())
    heard, cursor = polled(first)
    split, _ = polled(second)
    late, _ = polled(third, cursor)
    assert ([0, 1], [3, 4, 5], [2]) == (heard, split, late)
    assert first.incarnation == third.incarnation != second.incarnation


def test_polls_at_once_share_their_saves(path):
    """However many ask, no more than two writes are made for them."""

    async def scenario():
        process = Process(path)
        process.monitor.observe(rows(2), 1.0)
        reports = await asyncio.gather(*(process.report() for _ in range(20)))
        return process.saves("saved"), [len(report.blocks) for report in reports]

    assert (1.0, [2] * 20) == asyncio.run(scenario())


def test_a_poll_that_is_given_up_leaves_the_order_of_writes(path):
    """Who waits for a save may go away while it is written: later ones come after it."""

    async def scenario():
        process = Process(path)
        for _ in range(20):
            process.monitor.observe(rows(1), 1.0)
            asked = asyncio.create_task(process.report())
            await asyncio.sleep(0)
            asked.cancel()
        await process.keeper.stop()
        return Process(path).monitor.closed

    assert 20 == asyncio.run(scenario())


def test_saves_go_on_while_rows_come(path, monkeypatch, eventually):
    """Every so often, and only where there is something new."""
    monkeypatch.setattr(state, "SAVE_INTERVAL", 0.01)

    async def scenario():
        process = Process(path)
        process.keeper.start()
        for turn in range(3):
            process.monitor.observe(rows(1), 1.0)
            await eventually(lambda turn=turn: process.saves("saved") == turn + 1)
        await process.keeper.stop()
        return process.saves("saved")

    assert 3.0 == asyncio.run(scenario())


def test_two_processes_never_share_a_file(path):
    """The second counts on its own, and says what to do."""

    async def scenario():
        first = Process(path)
        first.monitor.observe(rows(2), 1.0)
        one = await first.report()
        second = Process(path)
        second.monitor.observe(rows(1), 1.0)
        other = await second.report()
        first.kill()
        return one, other, second.lines()[0], Process(path).restored

    one, other, line, restored_later = asyncio.run(scenario())
    assert one.incarnation != other.incarnation
    assert (2, 1, True) == (len(one.blocks), len(other.blocks), restored_later)
    assert f"another process uses {path}: give each its own DRIFT_STATE, or off" in line[1]


def left_by(path, blocks=3):
    """A process that has ended in order."""

    async def scenario():
        process = Process(path)
        process.monitor.observe(rows(blocks), 1.0)
        await process.keeper.stop()

    asyncio.run(scenario())


def edited(path, **change):
    """Replace fields of the stored document."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "it is not JSON"),
        (lambda path: path.write_bytes(b""), "it is not JSON"),
        (lambda path: path.write_bytes(b"[" * 100_000), "it is not JSON"),
        (lambda path: path.write_text("[]"), "it was written before this machine was started"),
        (lambda path: edited(path, boot="another"), "it was written before this machine was started"),
        (lambda path: edited(path, counts=None), "it is not of version 1"),
        (lambda path: os.truncate(path, 1 << 30), "it is not a file of this user with at most 16777216 bytes"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "it is not a file of this user"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
        (lambda path: (path.rename(f"{path}.real"), path.symlink_to(f"{path}.real")), "symbolic links"),
    ],
)
def test_a_file_that_cannot_be_trusted_begins_anew(path, spoil, sentence):
    """One line says why; nothing of it is counted, and the next process has a good file again where there can be one."""
    left_by(path)
    spoil(path)

    async def scenario():
        process = Process(path)
        process.monitor.observe(rows(1), 1.0)
        return process, await process.report()

    process, report = asyncio.run(scenario())
    level, message = process.lines()[0]
    assert (False, 16, 1) == (process.restored, report.rows, len(report.blocks))
    assert "WARNING" == level
    assert message.startswith(f"{path} is not restored, counts begin anew: ")
    assert sentence in message


def test_another_model_or_baseline_begins_anew(path):
    """Counts are restored for the very model and profile that they are of."""
    left_by(path)
    model = Process(path, model="sha256:" + "00" * 32)
    model.kill()
    profile = Process(path, profile=Profile.from_rows(RNG.normal(size=(100, 1)), ["a"]))
    assert (0, 0) == (model.monitor.rows, profile.monitor.rows)
    assert "it was counted of another model" in model.lines()[0][1]
    assert "it was counted against another baseline" in profile.lines()[0][1]


def test_without_a_boot_id_nothing_is_restored(path, monkeypatch):
    """A kernel that does not say when it was started may have been started since."""
    monkeypatch.setattr(state, "BOOT_ID", path.with_name("none"))
    left_by(path)
    assert not Process(path).restored


def test_a_service_goes_on_counting_where_its_predecessor_ended(serving, directory, path):
    """Through the settings and the routes: the same incarnation, its rows, and the same again with the state off."""

    async def scenario(where):
        found = []
        for _ in range(2):
            async with serving(directory.settings, drift_state=where) as pod:
                await pod.predict({"inputs": directory.rows[:20].tolist()})
                found.append((await pod.client.get("/drift")).json())
        return [(document["rows"], document["counts"]["n"]) for document in found], len(
            {document["incarnation"] for document in found}
        )

    directory.write()
    assert ([(20, 16), (40, 32)], 1) == asyncio.run(scenario(path))
    assert ([(20, 16), (20, 16)], 2) == asyncio.run(scenario(None))
