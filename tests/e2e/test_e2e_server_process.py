import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from serverprocess import COMMAND, HEAD, SEED_BODY, WHOLE, alive, answers, connection, eventually, stop

from aiops_drift import Report, advance, reports_from


def test_the_seed_s_curl_is_answered_and_sigterm_ends_it_cleanly(run):
    """Alive before it is ready, ready with the model, the documented answer and line, and exit 0 after SIGTERM."""
    pod = run(DRAIN_SECONDS="5")  # in which a busy machine comes to ask twice
    assert 200 == eventually(lambda: pod.get("/livez"), "alive").status_code
    pod.ready()
    answer = subprocess.run(
        [
            "curl",
            "-sS",
            "-X",
            "POST",
            f"{pod.client.base_url}/predict",
            "-H",
            "Content-Type: application/json",
            "-d",
            SEED_BODY,
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    document = json.loads(answer.stdout)
    assert ([0, 2], False) == (document["predictions"], document["drift_detected"])
    assert ["predictions", "drift_detected", "drift_score"] == list(document)
    assert 2 == pod.drift()["rows"]
    assert any(
        line.startswith('INFO {"event": "prediction", "inputs_sample": [[5.1,3.5,1.4,0.2]') for line in pod.lines()
    )

    pod.process.send_signal(signal.SIGTERM)
    leaving = eventually(lambda: (health := pod.get("/health")) and health.status_code == 503 and health, "leaving")
    assert "ShuttingDown" == leaving.json()["reason"]
    assert [0, 2] == pod.predict(json.loads(SEED_BODY)["inputs"])["predictions"]
    assert 0 == pod.process.wait(timeout=5 + SERVER_DOCUMENTED)
    assert 'INFO {"event": "stopped"}' == pod.lines()[-1]


def test_every_line_of_the_log_can_be_read_by_a_machine(run):
    """A level, a text that may be empty, and JSON."""
    pod = run()
    pod.ready()
    pod.predict([[5.1, 3.5, 140, 0.2]])
    pod.client.post("/predict", content=b"?")
    pod.process.terminate()
    pod.process.wait(timeout=10)
    for line in pod.lines():
        level, _, rest = line.partition(" ")
        assert level in {"INFO", "WARNING", "ERROR"}
        assert "event" in json.loads(rest.removeprefix("Drift detected "))


def test_great_expectations_passes_fails_and_passes_again(run, artifacts, receiver):
    """In its own process, which is niced, sends a webhook, and dies with its parent."""
    url, posted = receiver
    pod = run(DRIFT_WEBHOOK=url, REQUIRE_WEBHOOK="true", SERVICE_NAME="iris", DRIFT_THRESHOLD="1000")
    pod.ready()
    rows = np.load(artifacts / "baseline.npy")
    shifted = rows.copy()
    shifted[:, 2] *= 10  # centimeters read as millimeters

    def verdict(batch, state):
        pod.predict(batch)
        return eventually(lambda: (found := pod.drift()["expectations"])["state"] == state and found, state)

    healthy = verdict(rows, "passed")
    (child,) = pod.children()
    failed = verdict(shifted, "failed")
    assert (150, []) == (healthy["evaluated_rows"], healthy["failed"])
    assert "expect_column_median_to_be_between(petal length (cm))" in failed["failed"]
    eventually(lambda: posted, "webhook")
    assert [("drift", "great_expectations", "iris")] == [(p["event"], p["detector"], p["service"]) for p in posted]
    assert failed["failed"] == posted[0]["failed"]
    assert any(
        line.startswith('WARNING Drift detected {"event": "drift", "detector": "great_expectations"')
        for line in pod.lines()
    )
    assert 'drift_events_total{detector="great_expectations"} 1.0' in pod.client.get("/metrics").text
    assert "passed" == verdict(rows, "passed")["state"]
    assert 10 == os.getpriority(os.PRIO_PROCESS, child)

    os.kill(child, signal.SIGKILL)  # as the kernel does where memory is short
    (second,) = eventually(lambda: [pid for pid in pod.children() if pid != child], "started again")
    assert "passed" == verdict(rows, "passed")["state"]
    pod.process.kill()
    pod.process.wait()
    eventually(lambda: not alive(second), "the child is gone with its parent")


@pytest.mark.parametrize(
    ("suite", "sentence"),
    [
        ({"expectation_suite_name": "old", "expectations": []}, "the suite has the form of Great Expectations 0.18"),
        (
            {"name": "s", "expectations": [{"type": "expect_magic", "kwargs": {"column": "petal length (cm)"}}]},
            "does not know all expectations of the suite: expect_magic",
        ),
        (
            {"name": "s", "expectations": [{"type": "expect_column_values_to_be_between", "kwargs": {"max_value": 1}}]},
            "Great Expectations does not take the suite",
        ),
        (
            {
                "name": "s",
                "expectations": [
                    {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "gone", "max_value": 1}}
                ],
            },
            "1 of 1 expectations cannot be evaluated: expect_column_mean_to_be_between(gone)",
        ),
    ],
)
def test_a_suite_that_does_not_fit_is_an_error_and_not_drift(run, artifacts, tmp_path, suite, sentence):
    """Predictions go on, and the state says what is wrong with the suite."""
    path = tmp_path / "expectations.json"
    path.write_text(json.dumps(suite))
    manifest = json.loads((artifacts / "manifest.json").read_text())
    directory = tmp_path / "models"
    directory.mkdir()
    for name in ("model.skops", "baseline.npy"):
        (directory / name).write_bytes((artifacts / name).read_bytes())
    del manifest["files"]["expectations.json"]
    (directory / "manifest.json").write_text(json.dumps(manifest))
    pod = run(directory, EXPECTATIONS_PATH=str(path))
    pod.ready()
    pod.predict(np.load(artifacts / "baseline.npy"))
    found = eventually(lambda: (state := pod.drift()["expectations"])["state"] != "pending" and state, "a state")
    assert "error" == found["state"]
    assert sentence in found["message"]
    assert 'drift_events_total{detector="great_expectations"} 0.0' in pod.client.get("/metrics").text


def test_drift_in_a_request_reaches_the_webhook_before_the_end(run, receiver):
    """Posted off the request path, and flushed at SIGTERM."""
    url, posted = receiver
    pod = run(DRIFT_WEBHOOK=url, SERVICE_NAME="iris")
    pod.ready()
    assert pod.predict([[5.1, 3.5, 140, 0.2]])["drift_detected"]
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=15)
    assert [("drift", "iris", "petal length (cm)", 5.0)] == [
        (p["event"], p["service"], p["feature"], p["threshold"]) for p in posted
    ]


def test_settings_are_followed_while_it_runs(run, tmp_path):
    """A threshold and the mode of Great Expectations, without a restart; the child comes and goes."""
    path = tmp_path / "runtime.yaml"
    path.write_text("drift: {expectations: {mode: disabled}}")
    pod = run(RUNTIME_CONFIG=str(path))
    pod.ready()
    assert ([], "disabled") == (pod.children(), pod.drift()["expectations"]["state"])
    assert not pod.predict([[5.1, 3.5, 1.4, 0.2]])["drift_detected"]
    path.write_text("drift: {zScoreThreshold: 1}")
    eventually(lambda: pod.predict([[5.1, 3.5, 1.4, 0.2]])["drift_detected"], "the lower threshold")
    eventually(pod.children, "the validating process")


class Reader:
    """Reads /drift as the operator does."""

    def __init__(self):
        self.cursors, self.blocks, self.counted = {}, [], 0

    def read(self, pod):
        """Take what is new; returns the report."""
        report = Report.from_dict(pod.drift())
        self.cursors[report.incarnation], blocks = advance(self.cursors.get(report.incarnation), report)
        self.blocks += [(report.incarnation, block.number) for block in blocks]
        self.counted += sum(block.counts.n for block in blocks)
        return report


def test_counts_go_on_after_an_orderly_end(run, artifacts, tmp_path):
    """The same incarnation in the next process of the pod, with all rows, those of the open block too."""
    rows, reader, state = np.load(artifacts / "baseline.npy"), Reader(), str(tmp_path / "state" / "state.json")
    pod = run(DRIFT_STATE=state)
    pod.ready()
    pod.predict(rows)
    before = reader.read(pod)
    pod.predict(rows)  # nobody asks before the end
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=15)

    pod = run(DRIFT_STATE=state)
    pod.ready()
    restored = reader.read(pod)
    pod.predict(rows)
    after = reader.read(pod)
    assert (before.incarnation, before.incarnation) == (restored.incarnation, after.incarnation)
    assert (150, 300, 450) == (before.rows, restored.rows, after.rows)
    assert [(before.incarnation, number) for number in range(28)] == reader.blocks
    assert 448 == reader.counted == after.counts.n
    assert 'drift_state_saves_total{result="failed"} 0.0' in pod.client.get("/metrics").text


def test_a_kill_loses_what_nobody_has_heard_of_and_nothing_is_counted_twice(run, artifacts, tmp_path):
    """What a poll saw is in the next process; numbers that it did not see are used for other rows."""
    rows, reader, state = np.load(artifacts / "baseline.npy"), Reader(), str(tmp_path / "state" / "state.json")
    sent = 0
    for _ in range(3):
        pod = run(DRIFT_STATE=state)
        pod.ready()
        for _ in range(2):
            pod.predict(rows[:48])
            reader.read(pod)
            sent += 48
        pod.predict(rows[:48])  # with luck these are saved before the kill, and then they are not lost
        pod.process.kill()
        pod.process.wait()
    pod = run(DRIFT_STATE=state)
    pod.ready()
    last = reader.read(pod)
    assert 1 == len(reader.cursors)
    assert len(reader.blocks) == len(set(reader.blocks))
    assert [(last.incarnation, number) for number in range(last.counts.n // 16)] == reader.blocks
    assert reader.counted == last.counts.n
    assert sent <= reader.counted <= sent + 3 * 48


def test_a_state_that_cannot_be_written_stops_no_prediction(run, artifacts, tmp_path):
    """A line, a counter, and /drift as ever."""
    (tmp_path / "file").touch()
    pod = run(DRIFT_STATE=str(tmp_path / "file" / "state.json"))
    pod.ready()
    pod.predict(np.load(artifacts / "baseline.npy"))
    assert 150 == pod.drift()["rows"]
    assert 1 <= pod.metric('drift_state_saves_total{result="failed"}')
    assert 2 == len([line for line in pod.lines() if "drift state" in line])


def test_a_required_webhook_that_is_missing_refuses_the_start():
    """Exit 2, and one line that says what to set."""
    ended = subprocess.run(
        COMMAND,
        env={**os.environ, "REQUIRE_WEBHOOK": "true", "DRIFT_WEBHOOK": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (2, "") == (ended.returncode, ended.stdout)
    assert (
        "aiops-inference: REQUIRE_WEBHOOK is true, but DRIFT_WEBHOOK is empty: set it to the URL that drift is posted to\n"
        == ended.stderr
    )


def test_help_names_the_variables():
    """All that can be told is in the environment."""
    ended = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True, timeout=30)
    assert all(
        name in ended.stdout
        for name in ("MODEL_PATH", "DRIFT_WEBHOOK", "DRIFT_STATE", "RUNTIME_CONFIG", "DRAIN_SECONDS")
    )


def test_a_wrong_digest_is_not_served(run):
    """The process lives, /livez answers, and /health says why there is no model."""
    pod = run(MODEL_SHA256="0" * 64)
    health = eventually(
        lambda: (answer := pod.get("/health")) and answer.json()["reason"] != "Loading" and answer, "a reason"
    )
    assert (503, "DigestMismatch") == (health.status_code, health.json()["reason"])
    assert 200 == pod.get("/livez").status_code
    assert 503 == pod.client.post("/predict", content=SEED_BODY).status_code


def test_a_body_of_ten_megabytes_is_answered_and_forgotten(run):
    """413 over a real socket, on a connection that goes on; the memory does not stay."""
    pod = run()
    pod.ready()
    big = b'{"inputs": [[' + b"1," * 5_000_000 + b"1]]}"
    assert 413 == pod.client.post("/predict", content=big).status_code
    assert (
        413 == pod.client.post("/predict", content=(big[i : i + 65536] for i in range(0, len(big), 65536))).status_code
    )
    assert [0, 2] == pod.client.post("/predict", content=SEED_BODY).json()["predictions"]
    assert 2 == pod.drift()["rows"]


NOT_HTTP = {"error": "Invalid HTTP request received.", "reason": "InvalidHttp"}


@pytest.mark.parametrize(
    ("content", "predicted"),
    [
        (HEAD + b"Content-Length: abc\r\n\r\n", 0),
        (HEAD + b"Content-Length: -5\r\n\r\n", 0),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", 0),
        (b"garbage\r\n\r\n", 0),
        (WHOLE * 5 + b"garbage\r\n\r\n", 5),
    ],
)
def test_what_is_not_http_is_refused_in_json(run, content, predicted):
    """After the requests that came before it; no internal error, and every prediction is counted."""
    pod = run()
    pod.ready()
    found = answers(connection(pod, content))
    assert [200] * predicted + [400] == [status for status, _ in found]
    assert NOT_HTTP == found[-1][1]
    assert f"inference_rows_total {2.0 * predicted}" in pod.client.get("/metrics").text
    if predicted:
        assert 'inference_requests_total{code="200"} 5.0' in pod.client.get("/metrics").text
    assert not [line for line in pod.lines() if line.startswith("ERROR")]


def test_clients_that_do_not_finish_do_not_delay_the_end(run):
    """Without a byte of the body, with one, with half a header or nothing at all: over in seconds, without a traceback."""
    pod = run()
    pod.ready()
    announced = HEAD + b"Content-Length: 40\r\n\r\n"
    waiting = [connection(pod, content) for content in (announced, announced + b"{", HEAD[:30], b"")]
    eventually(lambda: pod.get("/livez"), "a round of the loop")
    began = time.monotonic()
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=15)
    # 0.5 to drain, 2 for the bodies, and a slow machine; who waits for what others have begun takes 10 more.
    assert time.monotonic() - began < 10
    found = [answers(made) for made in waiting]
    assert [[408], [408], [], []] == [[status for status, _ in answer] for answer in found]
    assert "the pod is shutting down, and the body did not arrive in time" == found[0][0][1]["error"]
    assert not [line for line in pod.lines() if line.startswith("ERROR") or "traceback" in line]


def test_a_client_that_does_not_read_does_not_delay_the_end(run):
    """Answers that nobody takes are dropped, without a traceback."""
    pod = run()
    pod.ready()
    made = connection(pod, b"")
    made.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:  # until neither side's buffers take any more
            made.sendall(b"GET /metrics HTTP/1.1\r\nHost: pod\r\n\r\n" * 50)
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=20)
    made.close()
    assert not [line for line in pod.lines() if "traceback" in line]


# Seconds from SIGTERM to the end at most: what server.py says, with the DRAIN_SECONDS of these pods.
SERVER_DOCUMENTED = 21.0 - 2.0 + 0.5
LONG_ID = "x" * 128


def metric(pod, name):
    """A sample without labels."""
    return next(float(line.split()[1]) for line in pod.get("/metrics").text.splitlines() if line.startswith(name + " "))


def many(pod, count):
    """Predictions with long lines; the bodies are pipelined, and each is answered."""
    body = json.dumps({"inputs": [[5.123456789012345, 3.5, 140.123456789012345, 0.2]] * 3}).encode()
    lines = [HEAD, b"X-Request-ID: " + LONG_ID.encode() + b"\r\n", b"Content-Length: %d\r\n" % len(body)]
    whole = b"".join(lines) + b"\r\n" + body
    last = b"".join(lines) + b"Connection: close\r\n\r\n" + body
    with connection(pod, b"") as made:
        sender = threading.Thread(target=made.sendall, args=(whole * (count - 1) + last,))
        sender.start()
        found = b""
        while more := made.recv(1 << 16):
            found += more
        sender.join()
    return found.count(b"HTTP/1.1 200 OK")


def test_a_log_that_nobody_reads_holds_nothing_up(run):
    """Predictions and probes go on; what was lost is counted and told, and all other lines are whole when it is read."""
    reader, writer = os.pipe()
    pod = run(stdout=writer, EXPECTATIONS_PATH="/nowhere")
    os.close(writer)
    pod.ready()
    asked = 0
    while asked < 8000 and not metric(pod, "log_lines_dropped_total"):
        asked += 500
        assert 500 == many(pod, 500)
    dropped = metric(pod, "log_lines_dropped_total")
    assert 0 < dropped < asked
    assert 200 == pod.get("/livez").status_code

    with os.fdopen(reader, "rb") as stream:
        lines, later = [], 0
        while not lines or b"log lines dropped" not in lines[-1]:
            later += pod.client.post("/predict", content=SEED_BODY).status_code == 200
            lines.append(stream.readline())
        pod.process.terminate()
        lines += stream.readlines()
    assert 0 == pod.process.wait(timeout=SERVER_DOCUMENTED)
    documents = [json.loads(line[line.index(b"{") :]) for line in lines]
    total = [found["total"] for found in documents if found["event"] == "log lines dropped"][-1]
    told = sum(found["event"] in {"prediction", "drift"} for found in documents)
    assert dropped <= total
    assert 2 * asked + later == told + total  # of the long ones a line of the prediction and one of its drift
    assert "stopped" == documents[-1]["event"]


def test_a_full_disk_does_not_fail_predictions(run):
    """Every line is lost and counted."""
    with Path("/dev/full").open("wb") as full:
        pod = run(stdout=full, EXPECTATIONS_PATH="/nowhere")
    pod.ready()
    assert [0, 2] == pod.predict(json.loads(SEED_BODY)["inputs"])["predictions"]
    assert metric(pod, "log_lines_dropped_total") >= 2
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=SERVER_DOCUMENTED)


def test_what_hangs_does_not_delay_the_end(run, artifacts):
    """A receiver that never answers and a validating process that does not move: over in time, and told."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/hook"
        pod = run(DRIFT_WEBHOOK=url)
        pod.ready()
        (child,) = eventually(pod.children, "the validating process")
        os.kill(child, signal.SIGSTOP)
        assert pod.predict(np.load(artifacts / "baseline.npy") * [1, 1, 100, 1])["drift_detected"]
        accepted, _ = silent.accept()  # the webhook is on its way
        with accepted:
            began = time.monotonic()
            pod.process.terminate()
            assert 0 == pod.process.wait(timeout=SERVER_DOCUMENTED)
            assert time.monotonic() - began < SERVER_DOCUMENTED
    assert not alive(child)
    ended = [line for line in pod.lines() if '"result": "dropped"' in line or '"event": "stopped"' in line]
    assert ["WARNING", "INFO"] == [line.split()[0] for line in ended]


def test_a_model_that_cannot_be_read_to_its_end_does_not_delay_the_end(run, tmp_path):
    """A volume that hangs: nobody waits for the thread that reads it."""
    os.mkfifo(tmp_path / "model.pkl")
    pod = run(tmp_path)
    eventually(lambda: pod.get("/livez"), "alive")
    assert "Loading" == pod.get("/health").json()["reason"]
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=SERVER_DOCUMENTED)
    assert 'INFO {"event": "stopped"}' == pod.lines()[-1]


def send(pod, rows):
    """A row a connection, so that any worker may take it."""
    for row in rows:
        assert 200 == pod.client.post("/predict", json={"inputs": [row]}).status_code


def shares(pod):
    """Rows that each worker has counted, by incarnation; nothing while one of the two is silent."""
    reports = reports_from(pod.drift())
    return {report.incarnation: report.rows for report in reports} if len(reports) == 2 else {}


def reader_of(pod, cursors, blocks):
    """Read /drift as the operator does: the blocks that are new, of each incarnation."""
    for report in reports_from(pod.drift()):
        cursors[report.incarnation], fresh = advance(cursors.get(report.incarnation), report)
        blocks += [(report.incarnation, block.number, block.counts.n) for block in fresh]


def test_two_workers_answer_as_one_pod(run, artifacts, tmp_path, measured):
    """Metrics and counts are of both whoever is asked; a worker that is killed comes again with its counts; one end for all."""
    rows, sent = np.load(artifacts / "baseline.npy").tolist(), 0
    pod = run(WORKERS="2", DRIFT_STATE=str(tmp_path / "state.json"))
    pod.ready()
    pod.client.close()
    pod.client = httpx.Client(base_url=pod.client.base_url, timeout=10, headers={"connection": "close"})
    eventually(lambda: shares(pod), "both workers")
    while sent < 3000 and min(shares(pod).values(), default=0) < 40:
        send(pod, rows)
        sent += len(rows)
    before = shares(pod)
    assert (2, sent) == (len(before), sum(before.values()))
    assert min(before.values()) >= 40
    measured["rows by worker, a connection each"] = sorted(before.values())
    assert sent == pod.metric("inference_rows_total")
    assert sent == pod.metric('inference_requests_total{code="200"}')
    assert (2, 0) == (pod.metric("inference_workers"), pod.metric("inference_workers_silent"))
    cursors, blocks = {}, []
    reader_of(pod, cursors, blocks)
    assert sorted(before) == sorted(cursors)
    assert sum(count // 16 * 16 for count in before.values()) == sum(count for *_, count in blocks)

    victim, spared = pod.children()
    stop(victim)  # silent for as long as it stands still; the one that comes after it is soon there
    assert (1, sent) == (pod.metric("inference_workers_silent"), pod.metric("inference_rows_total"))
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: victim not in pod.children(), "the end of a worker")
    while not (after := shares(pod)):  # each request is answered meanwhile
        send(pod, rows[:1])
        sent += 1
    assert (0, sent) == (pod.metric("inference_workers_silent"), pod.metric("inference_rows_total"))
    assert (2, True) == (len(pod.children()), spared in pod.children())
    assert any('"event": "worker ended"' in line and '"code": -9' in line for line in pod.lines())
    assert set(before) == set(after)
    assert sent - 15 <= sum(after.values()) <= sent  # rows of the open block that no save has seen
    send(pod, rows)
    reader_of(pod, cursors, blocks)
    assert len(blocks) == len({(name, number) for name, number, _ in blocks})
    assert sum(cursor.counts.n for cursor in cursors.values()) == sum(count for *_, count in blocks)
    assert sent + len(rows) - 15 - 30 <= sum(count for *_, count in blocks) <= sent + len(rows)
    assert all(path.exists() for path in (tmp_path / "state.json-0", tmp_path / "state.json-1"))

    ending = pod.children()
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=30)
    assert [] == [pid for pid in ending if alive(pid)]
    assert 2 == pod.lines().count('INFO {"event": "stopped"}')
    assert not [line for line in pod.lines() if "traceback" in line]
