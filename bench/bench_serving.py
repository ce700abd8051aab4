"""Requests a second, latency, memory and start of our server beside others: one worker on one core, the load on another.

The load is wrk's, and its percentiles are its own, which it corrects for pauses of the server that a waiting connection would
have suffered from. The last line is one JSON object.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

HERE: Final = Path(__file__).parent / "serving"
PORT: Final = 18080
LOADS: Final = ((1, 1), (1, 32), (64, 1), (64, 32))  # rows, connections
HEADLINE: Final = (1, 32)
START_TIMEOUT: Final = 60.0
SCRIPT: Final = """
local file = io.open(os.getenv("BENCH_BODY"), "rb")
wrk.method = "POST"
wrk.path = os.getenv("BENCH_PATH")
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "application/json"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests": %d, "microseconds": %d, "p50": %f, "p99": %f, "errors": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Server:
    """How one server is started and asked.

    Attributes:
        command: with `{port}` where the port belongs.
        path: what predictions are posted to.
        ready: what answers 200 when it is ready.
        key: what the rows are called in the body; `v2` for a tensor.
        environment: beside the artifacts' paths.
        shadow: whether copies of all rows go to another server of its kind, on the core of the load.
    """

    command: tuple[str, ...]
    path: str = "/predict"
    ready: str = "/health"
    key: str = "inputs"
    environment: Mapping[str, str] = field(default_factory=dict)
    shadow: bool = False


def servers(python: str) -> dict[str, Server]:
    """All that can be measured here."""
    ours = Server((python, "-m", "aiops_inference"), environment={"PORT": str(PORT), "HOST": "127.0.0.1"})
    return {
        "ours": ours,
        "shadowed": replace(ours, shadow=True),
        "floor": Server((python, str(HERE / "floor.py"), str(PORT)), ready="/"),
        "textbook": Server((python, str(HERE / "textbook.py"), str(PORT))),
        **{
            path.name: Server(
                (
                    f"{os.environ.get('BENCH_ENVIRONMENTS', '')}/{path.name}/bin/python",
                    str(path / "server.py"),
                    str(PORT),
                ),
                **json.loads((path / "server.json").read_text()),
            )
            for path in sorted(HERE.iterdir())
            if (path / "server.json").exists()
        },
    }


def artifacts(directory: Path) -> dict[str, str]:
    """A logistic regression on iris, as everybody's example has it, and where it was written."""
    subprocess.run(
        [sys.executable, "training/train.py", "--format", "pickle", "--output", str(directory)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (directory / "expectations.json").unlink()  # no other server has a child process that validates
    manifest = json.loads((directory / "manifest.json").read_text())
    del manifest["files"]["expectations.json"]
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return {"MODEL_PATH": str(directory / "model.pkl"), "BASELINE_PATH": str(directory / "baseline.npy")}


@contextlib.contextmanager
def with_shadow(server: Server, environment: Mapping[str, str], directory: Path) -> Iterator[Mapping[str, str]]:
    """The environment of a server that is to have a shadow, which runs; of any other as it is."""
    if not server.shadow:
        yield environment
        return
    port, runtime = PORT + 1, directory / "runtime.yaml"
    runtime.write_text(json.dumps({"shadow": {"url": f"http://127.0.0.1:{port}", "revision": "bench"}}))
    own = {"PORT": str(port), "DRIFT_STATE": "off", "LOG_PREDICTIONS": "0"}
    beside = replace(server, environment={**server.environment, **own})
    with running(beside, environment, directory / "shadow.log", port, core=1):
        yield {**environment, "RUNTIME_CONFIG": str(runtime)}


@contextlib.contextmanager
def running(
    server: Server, environment: Mapping[str, str], log: Path, port: int = PORT, core: int = 0
) -> Iterator[tuple[int, float]]:
    """The server's process id and the seconds until it was ready; it has ended when the block ends."""
    _until_free(port)
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *server.command],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment, **server.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process.pid, _until_ready(server, process, started, log, port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _until_free(port: int) -> None:
    """Wait for what the server before has left running: it would be measured in the next one's place."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _until_ready(server: Server, process: "subprocess.Popen[bytes]", started: float, log: Path, port: int) -> float:
    while time.monotonic() - started < START_TIMEOUT and process.poll() is None:
        url = f"http://127.0.0.1:{port}{server.ready}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):  # an HTTPError is an OSError
            return time.monotonic() - started
        time.sleep(0.02)
    tail = log.read_text(errors="replace")[-2000:]
    message = f"{server.command} was not ready within {START_TIMEOUT:g} s:\n{tail}"
    raise RuntimeError(message)


def resident(pid: int) -> float:
    """MiB of a process and all that descend from it."""
    parents, pages = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            parents[int(status.parent.name)], pages[int(status.parent.name)] = int(fields[1]), int(fields[21])
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(pages.get(member, 0) for member in family) * os.sysconf("SC_PAGE_SIZE") / 2**20


def load(server: Server, rows: int, connections: int, seconds: int, directory: Path) -> dict[str, float]:
    """One round of wrk."""
    body = directory / f"{server.key}-{rows}.json"
    values = np.random.default_rng(0).normal([5.8, 3.1, 3.8, 1.2], [0.8, 0.4, 1.8, 0.8], size=(rows, 4)).round(1)
    document = {server.key: values.tolist()}
    if server.key == "v2":
        document = {"inputs": [{"name": "x", "shape": [rows, 4], "datatype": "FP64", "data": values.ravel().tolist()}]}  # type: ignore[dict-item]
    body.write_text(json.dumps(document))
    script = directory / "load.lua"
    script.write_text(SCRIPT)
    output = subprocess.run(
        [
            "taskset",
            "-c",
            "1",
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "-s",
            str(script),
            f"http://127.0.0.1:{PORT}",
        ],
        env={**os.environ, "BENCH_BODY": str(body), "BENCH_PATH": server.path},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = json.loads(next(line for line in output.splitlines() if line.startswith("RESULT"))[7:])
    return {
        "failed": found["errors"],
        "rps": found["requests"] / found["microseconds"] * 1e6,
        "p50": found["p50"] / 1000,
        "p99": found["p99"] / 1000,
    }


def measure(names: list[str], rounds: int, seconds: int) -> dict[str, dict[str, Any]]:
    """All servers in turn, so many rounds; the median of each figure."""
    known = servers(sys.executable)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        environment = artifacts(directory)
        for round_ in range(rounds):
            for name in names:
                own = {**environment, "DRIFT_STATE": str(directory / f"state-{round_}.json")}
                with (
                    with_shadow(known[name], own, directory) as its,
                    running(known[name], its, directory / f"{name}.log") as (pid, start),
                ):
                    load(known[name], *HEADLINE, 1, directory)
                    figures: dict[str, Any] = {"start_s": start}
                    for rows, connections in LOADS:
                        found_now = load(known[name], rows, connections, seconds, directory)
                        if found_now["failed"] and name == "ours":
                            message = f"{found_now['failed']} requests failed, {rows} rows on {connections} connections"
                            raise RuntimeError(message)
                        figures[f"{rows}x{connections}"] = found_now
                    figures["rss_mib"] = resident(pid)
                found[name].append(figures)
                headline = figures[f"{HEADLINE[0]}x{HEADLINE[1]}"]
                print(
                    f"round {round_ + 1} of {rounds}  {name:9}  {headline['rps']:8.0f} requests/s  p99 {headline['p99']:7.2f} ms"
                    f"  alone p50 {figures['1x1']['p50']:6.3f} ms  {figures['rss_mib']:4.0f} MiB  ready in {start:.2f} s",
                    flush=True,
                )
    return {name: median(runs) for name, runs in found.items()}


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Figure by figure."""
    return {
        key: median([run[key] for run in runs])
        if isinstance(value, dict)
        else round(statistics.median(run[key] for run in runs), 3)
        for key, value in runs[0].items()
    }


def main() -> int:
    """Run and print; 0."""
    options = argparse.ArgumentParser(prog="bench-serving", description=__doc__)
    options.add_argument("--only", nargs="+", default=None, metavar="NAME", help=f"of {', '.join(servers(''))}")
    options.add_argument("--rounds", type=int, default=3, help="default: 3")
    options.add_argument("--seconds", type=int, default=5, help="of each load (default: 5)")
    chosen = options.parse_args()
    found = measure(chosen.only or list(servers("")), chosen.rounds, chosen.seconds)
    ours = found.pop("ours", None)
    key = f"{HEADLINE[0]}x{HEADLINE[1]}"
    ratio = {name: round(ours[key]["rps"] / peer[key]["rps"], 2) for name, peer in found.items()} if ours else {}
    print(json.dumps({"ours": ours, "peers": found, "ratio_to": ratio}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
