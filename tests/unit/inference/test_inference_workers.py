"""Several processes in one pod: what the parent tells a worker, when it starts it again, and metrics as of one process."""

import contextlib
import itertools
import os
import socket
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from aiops_inference.errors import SettingsError
from aiops_inference.exposition import merged
from aiops_inference.peers import Peers
from aiops_inference.telemetry import Metrics
from aiops_inference.workers import LONGEST_PAUSE, Worker, listen, pause_after

LABELS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8)


def exposed(counts=(), seconds=(), level=0.0, ready=1):
    """What a process tells that has counted so often by label, and taken so many seconds."""
    registry = CollectorRegistry()
    counter = Counter("events", "What \\ happened.", ["of"], registry=registry)
    for label, count in dict(counts).items():
        counter.labels(label).inc(count)
    histogram = Histogram("taken_seconds", "Time.", buckets=(0.5, 2.0), registry=registry)
    for taken in seconds:
        histogram.observe(taken)
    Gauge("drift_score", "Score.", registry=registry).set(level)
    Gauge("inference_ready", "Ready.", registry=registry).set(ready)
    return generate_latest(registry)


def samples(text):
    """All values, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


PROCESSES = st.lists(
    st.tuples(
        st.dictionaries(LABELS, st.integers(0, 10**9), max_size=3),
        st.lists(st.sampled_from([0.25, 1.0, 4.0]), max_size=4),
        st.floats(0, 1e6),
    ),
    min_size=1,
    max_size=4,
)


@given(PROCESSES)
def test_metrics_of_several_processes_are_those_of_one_that_did_it_all(processes):
    """Counters and histograms as if one had counted; of gauges the largest."""
    counts = {
        label: sum(one.get(label, 0) for one, *_ in processes)
        for label in itertools.chain(*(one for one, *_ in processes))
    }
    seconds = [taken for _, observed, _ in processes for taken in observed]
    alone = exposed(counts, seconds, max(level for *_, level in processes))
    assert samples(alone) == samples(merged([exposed(*process) for process in processes]))


def test_the_metrics_of_one_process_stay_as_they_are():
    """Byte for byte, so that a scraper sees no other form."""
    exposition = Metrics().exposition()
    assert exposition == merged([exposition])


def test_each_gauge_has_its_rule():
    """Ready where all are, disabled where all are; a process's sizes add up, and the oldest start is the pod's."""
    texts = [
        b'inference_ready %d\nexpectations_state{state="disabled"} %d\nexpectations_state{state="passed"} %d\n'
        b"process_open_fds %d\nprocess_start_time_seconds %d\n" % values
        for values in ((1, 0, 1, 10, 300), (0, 1, 0, 20, 200))
    ]
    types = (
        b"# TYPE %b gauge\n"
        * 4
        % (
            b"inference_ready",
            b"expectations_state",
            b"process_open_fds",
            b"process_start_time_seconds",
        )
    )
    found = samples(merged([types + text for text in texts]))
    assert [0, 0, 1, 30, 200] == list(found.values())


def test_of_processes_that_are_gone_the_counters_stay():
    """And nothing else: their gauges say nothing any more."""
    gone, here = exposed({"a": 5}, [1.0], level=9.0, ready=0), exposed({"a": 1}, [4.0], level=1.0)
    found = samples(merged([here], [gone]))
    assert (6, 2, 5.0) == tuple(
        found[name, labels]
        for name, labels in (
            ("events_total", (("of", "a"),)),
            ("taken_seconds_count", ()),
            ("taken_seconds_sum", ()),
        )
    )
    assert (1.0, 1) == (found["drift_score", ()], found["inference_ready", ()])


def test_a_worker_goes_on_from_what_the_one_before_told(tmp_path):
    """Whatever it told last, and however often its place is taken."""
    worker = Worker(1, 2, os.getpid(), (), str(tmp_path))
    found = []
    for _ in range(3):
        peers = Peers(worker)
        told = [samples(peers.own_metrics(exposed({"a": count}))) for count in (1, 4)]
        found += [one["events_total", (("of", "a"),)] for one in told]
    assert [1, 4, 5, 8, 9, 12] == found


def test_a_request_is_another_worker_s_by_the_socket_that_it_came_over(tmp_path):
    """What a client says of itself has nothing to do with it."""
    peers = Peers(Worker(0, 2, os.getpid(), (), str(tmp_path)))
    servers = [(str(tmp_path / "0.sock"), None), ("127.0.0.1", 8000), None]
    assert [True, False, False] == [peers.private({"server": server}) for server in servers]


@given(st.integers(0, 63), st.lists(st.integers(3, 9)), st.text())
def test_a_worker_is_told_who_it_is(slot, sockets, directory):
    """Through a variable."""
    worker = Worker(slot, 64, 1, tuple(sockets), directory)
    assert worker == Worker.from_text(worker.to_text())


@pytest.mark.parametrize("text", ["", "1", "{}", '{"sockets": 1}', '{"sockets": [], "other": 1}'])
def test_what_no_parent_wrote_is_refused(text):
    """With what to do."""
    with pytest.raises(SettingsError, match="AIOPS_WORKER is set, and not by aiops-inference; unset it"):
        Worker.from_text(text)


def test_pauses_grow_to_a_limit():
    """Half a second, twice as many after each failure, half a minute at most."""
    assert [0.5, 1.0, 2.0, 4.0] == [pause_after(failures) for failures in range(1, 5)]
    assert [LONGEST_PAUSE, LONGEST_PAUSE] == [pause_after(7), pause_after(10**6)]


def test_a_worker_opens_what_the_parent_listens_on(tmp_path):
    """And its private socket, though the one before has left its own behind."""
    with contextlib.ExitStack() as opened:
        (listener,) = (opened.enter_context(one) for one in listen("127.0.0.1", 0))
        (tmp_path / "0.sock").touch()
        worker = Worker(0, 2, os.getpid(), (os.dup(listener.fileno()),), str(tmp_path))
        at_once, later = worker.open()
        private, inherited = (opened.enter_context(one) for one in at_once)
        assert [] == later
        assert listener.getsockname() == inherited.getsockname()
        assert (socket.AF_UNIX, str(tmp_path / "0.sock")) == (private.family, private.getsockname())
        assert stat.S_ISSOCK((tmp_path / "0.sock").stat().st_mode)


def test_a_worker_that_is_started_again_serves_when_it_has_a_model(tmp_path):
    """Until then the others do, and it answers them alone."""
    with contextlib.ExitStack() as opened:
        (listener,) = (opened.enter_context(one) for one in listen("127.0.0.1", 0))
        worker = Worker(0, 2, os.getpid(), (os.dup(listener.fileno()),), str(tmp_path), again=True)
        kinds = [[opened.enter_context(one).family for one in sockets] for sockets in worker.open()]
    assert [[socket.AF_UNIX], [socket.AF_INET]] == kinds


def test_a_port_that_is_taken_is_an_error():
    """And not shared with whoever has it."""
    with contextlib.ExitStack() as opened:
        (listener,) = (opened.enter_context(one) for one in listen("127.0.0.1", 0))
        with pytest.raises(OSError, match="in use"):
            listen(*listener.getsockname())
