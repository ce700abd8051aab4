"""An operator in the midst of many services that change all the time: what it takes of the machine stays what it was."""

import itertools
import os
import time
from pathlib import Path

from waiting import until

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
REST = 15  # seconds; for five of them Kopf keeps what it has begun for a service
NAMES = [f"iris-{number:02}" for number in range(40)]
# How much more there may be at the end than in the middle: several hundred reconciles lie between them even in a minute.
MORE = {"memory": 8 << 20, "tasks": 10, "threads": 4, "files": 32}


def used(operator):
    """Of one moment: bytes of memory, tasks, threads, and open files, connections among them."""
    process = Path(f"/proc/{operator.process.pid}")
    lines = (line.partition(":")[::2] for line in (process / "status").read_text().splitlines())
    status = {name: value.split() for name, value in lines}
    return {
        "memory": int(status["VmRSS"][0]) << 10,
        "tasks": int(operator.metric("aiops_operator_tasks")),
        "threads": int(status["Threads"][0]),
        "files": len(list((process / "fd").iterdir())),
    }


def least(operator):
    """The least of each while nothing changes any more: what has been under way comes to its end."""
    moments, end = [], time.monotonic() + REST
    until(lambda: moments.append(used(operator)), lambda _: time.monotonic() > end, every=0.2)
    return {name: min(moment[name] for moment in moments) for name in MORE}


def change(api, addresses, number):
    """One round: every spec is another, some pods are, and a service is deleted and made anew."""
    for name in NAMES:
        api.change({"drift": {"zScoreThreshold": 5 + number % 2}}, name)
    gone, *rolled = (NAMES[(5 * number + offset) % len(NAMES)] for offset in range(5))
    api.delete("InferenceService", gone)
    until(lambda: api.all("Pod", f"app={gone}"), lambda seen: seen == [])  # they look as those of the new one will
    api.serve(name=gone)
    for name in rolled:
        api.change({"podTemplate": {"annotations": {"round": str(number)}}}, name)
    for name in (gone, *rolled):
        api.run_pods([addresses[number % len(addresses)]], name)
    for name in NAMES:
        api.settled(name)


def test_nothing_grows(api, start, pods, measured):
    """Memory, tasks, threads and open files in the middle and at the end, with services, pods and verdicts that change."""
    addresses, rounds = list(pods), itertools.count()
    with start(api.namespace, RESYNC_INTERVAL="5", POLL_INTERVAL="1") as operator:
        for name in NAMES:
            api.serve(name=name)
        for name in NAMES:
            api.run_pods(addresses[:1], name)
        begun, seen = time.monotonic(), []
        for long in (SECONDS / 2, SECONDS):
            while time.monotonic() - begun < long:
                number = next(rounds)
                for pod in pods.values():
                    pod.receive(160, 9.0 * (number % 2))
                change(api, addresses, number)
            seen.append(least(operator))
        reconciles = int(operator.reconciles())

    middle, end = seen
    measured["soak"] = f"{next(rounds)} rounds, {reconciles} reconciles; in the middle {middle}, at the end {end}"
    assert {} == {name: (middle[name], end[name]) for name in MORE if end[name] > middle[name] + MORE[name]}
