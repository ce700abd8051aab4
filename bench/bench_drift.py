"""Run length without drift and delay of detection, through the path that rows take: pods' blocks, polls, the operator's merge.

Every stream has a baseline of its own, which the calibration sees and the stream does not. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aiops_drift import Profile, Report
from aiops_inference.monitor import Monitor
from aiops_inference.settings import RuntimeSettings
from aiops_operator.api import Drift
from aiops_operator.drift import Memory, Pod, merge

Array = npt.NDArray[np.float64]

RUN_LENGTH: Final = 2000
CHANGE: Final = 500
LONGEST: Final = (
    10  # run lengths after which a stream without an alarm is given up: it counts with the rows that it had
)
SHIFTS: Final = (0.25, 0.5, 1.0, 2.0, 5.0)
BASELINE: Final = 1000  # rows, where nothing else is said
ASKED: Final = Drift(average_run_length=RUN_LENGTH)
POD: Final = Pod("pod", "127.0.0.1", newest=True)
MODEL: Final = f"sha256:{'0' * 64}"
DEPENDENCE: Final = 0.5
PEER_STREAMS: Final = 20
PEERS: Final = Path(__file__).parent / "drift"


@dataclass(frozen=True)
class Measured:
    """A mean or a ratio, its standard error, and the alarms that it was made of."""

    value: float
    error: float
    alarms: int


@dataclass(frozen=True)
class Delay:
    """Rows to the alarm, streams that were alarmed before the change, and those that never were."""

    rows: Measured
    early: int
    never: int


def autoregressive(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Columns with deviation 1 whose rows depend on those before them, φ = 0.5."""
    noise = rng.normal(size=shape) * np.sqrt(1 - DEPENDENCE**2)
    noise[0] /= np.sqrt(1 - DEPENDENCE**2)
    for row in range(1, shape[0]):
        noise[row] += DEPENDENCE * noise[row - 1]
    return noise


DISTRIBUTIONS: Final[dict[str, Callable[[np.random.Generator, tuple[int, int]], Array]]] = {
    "gaussian": lambda rng, shape: rng.normal(size=shape),
    "lognormal": lambda rng, shape: rng.lognormal(size=shape),
    "t3": lambda rng, shape: rng.standard_t(3, size=shape),
    "ar1": autoregressive,
}


def outputs(rows: Array) -> Array:
    """A model of two classes: prediction drift is watched too."""
    classes: Array = (rows[:, :4].sum(axis=1, keepdims=True) > 1).astype(np.float64)
    return classes


def profile_of(baseline: Array) -> Profile:
    """As training would write it."""
    said = outputs(baseline)
    return Profile.from_rows(baseline, None, said).calibrated(baseline, said)


def alarm(profile: Profile, rows: Array, poll_rows: int) -> int | None:
    """How many rows had been seen when the operator first said that they drift; None where it never did."""
    monitor = Monitor(profile, MODEL, RuntimeSettings(), labels=(0.0, 1.0))
    memory, after = Memory(), -1
    for start in range(0, len(rows), poll_rows):
        part = rows[start : start + poll_rows]
        monitor.observe(part, float(start), outputs(part)[:, 0].tolist())
        document = monitor.report(NOTHING, float(start), after).to_dict()
        report = Report.from_dict(json.loads(json.dumps(document)))
        after = report.blocks[-1].number if report.blocks else after
        memory = merge(memory, {POD: (report,)}, ASKED)
        if memory.state.drifting:
            return min(start + poll_rows, len(rows))
    return None


def streams(
    distribution: str, features: int, baseline_rows: int, count: int, rows: int
) -> Iterator[tuple[Profile, Array, Array]]:
    """Baselines of their own, each with a profile and a stream."""
    rng = np.random.default_rng([baseline_rows, features, sorted(DISTRIBUTIONS).index(distribution)])
    for _ in range(count):
        drawn = DISTRIBUTIONS[distribution](rng, (baseline_rows + CHANGE + rows, features))
        # What lies between is thrown away: the stream does not go on where its baseline ended.
        yield profile_of(drawn[:baseline_rows]), drawn[:baseline_rows], drawn[baseline_rows + CHANGE :]


@cache
def gaussian_streams(baseline_rows: int, count: int) -> tuple[tuple[Profile, Array, Array], ...]:
    """Those of the delays: the same for each change."""
    return tuple(streams("gaussian", 4, baseline_rows, count, CHANGE + 3000))


def run_length_ratio(distribution: str, features: int, baseline_rows: int, count: int) -> Measured:
    """Rows over alarms, over what was asked for.

    Its standard error is the ratio estimator's, over streams: they differ by chance and by their baselines.
    """
    lengths, alarms = [], []
    for profile, _, stream in streams(distribution, features, baseline_rows, count, LONGEST * RUN_LENGTH):
        found = alarm(profile, stream, 64)
        lengths.append(found or len(stream))
        alarms.append(found is not None)
    rows, sounded = np.array(lengths) / RUN_LENGTH, np.array(alarms, dtype=np.float64)
    total = max(float(sounded.sum()), 1.0)
    ratio = float(rows.sum()) / total
    error = float(np.sqrt(((rows - ratio * sounded) ** 2).sum() * count / max(count - 1, 1))) / total
    return Measured(ratio, error, int(sounded.sum()))


def shifted(rows: Array, size: float) -> Array:
    """The first feature moves by so many deviations."""
    moved = rows.copy()
    moved[:, 0] += size
    return moved


def doubled_variance(rows: Array) -> Array:
    """The first feature's variance doubles."""
    moved = rows.copy()
    moved[:, 0] *= np.sqrt(2)
    return moved


def delays(change: Callable[[Array], Array], baseline_rows: int, count: int, **mix: bool) -> Delay:
    """Rows from the change to the alarm, of streams that were quiet until then.

    At the run length asked for, about a fifth of the streams are alarmed in the rows before the change: these are left out.
    """
    found, early, never = [], 0, 0
    for profile, baseline, drawn in gaussian_streams(baseline_rows, count):
        stream = categories(drawn, changed_after=CHANGE) if mix else drawn
        stream = np.vstack([stream[:CHANGE], change(stream[CHANGE:])])
        at = alarm(profile_of(categories(baseline)) if mix else profile, stream, 16)
        if at is None:
            never += 1
        elif at <= CHANGE:
            early += 1
        else:
            found.append(at - CHANGE)
    if len(found) < 2:  # noqa: PLR2004 - a deviation needs two
        return Delay(Measured(float("nan"), float("nan"), len(found)), early, never)
    error = float(np.std(found, ddof=1)) / len(found) ** 0.5
    return Delay(Measured(float(np.mean(found)), error, len(found)), early, never)


def categories(rows: Array, changed_after: int | None = None) -> Array:
    """The first feature becomes one of four categories; after the change others are frequent, with the mean unchanged."""
    ranks = np.argsort(np.argsort(rows[:, 0])) / len(rows)
    before = np.digitize(ranks, [0.25, 0.5, 0.75]).astype(np.float64)  # 0, 1, 2, 3 alike
    after = np.digitize(ranks, [0.4, 0.5, 0.6]).astype(np.float64)  # 0 and 3 four times as frequent as 1 and 2
    mixed = rows.copy()
    mixed[:, 0] = before if changed_after is None else np.where(np.arange(len(rows)) < changed_after, before, after)
    return mixed


def update_cost(sizes: tuple[int, ...] = (1, 32)) -> dict[str, float]:
    """Microseconds of processor time a row of judging and counting, by rows a request."""
    rng = np.random.default_rng(0)
    profile = profile_of(rng.normal(size=(1000, 4)))
    cost = {}
    for size in sizes:
        monitor = Monitor(profile, MODEL, RuntimeSettings(), labels=(0.0, 1.0))
        requests = [rng.normal(size=(size, 4)) for _ in range(640 // size)]
        said = [outputs(rows)[:, 0].tolist() for rows in requests]
        best = float("inf")
        for _ in range(100):
            started = time.process_time()
            for rows, predictions in zip(requests, said, strict=True):
                monitor.observe(rows, 0.0, predictions)
            best = min(best, time.process_time() - started)
        cost[str(size)] = round(best / (size * len(requests)) * 1e6, 2)
    return cost


def calibration_cost() -> dict[str, float]:
    """Seconds of processor time to describe a baseline and to simulate its run lengths, as at load without a manifest, by rows × features."""
    rng, cost = np.random.default_rng(0), {}
    for rows, features in ((150, 4), (1000, 4), (10_000, 30)):
        baseline = rng.normal(size=(rows, features))
        times = []
        for _ in range(3):
            started = time.process_time()
            Profile.from_rows(baseline).calibrated(baseline)
            times.append(time.process_time() - started)
        cost[f"{rows}x{features}"] = round(min(times), 2)
    return cost


def peers(python: str, count: int) -> dict[str, Any]:
    """The same streams, given to others in an environment of their own; and our rules on them."""
    chosen = gaussian_streams(BASELINE, count)[:PEER_STREAMS]
    with tempfile.TemporaryDirectory() as directory:
        baselines, clean, moved = [], [], []
        for _, baseline, stream in chosen:
            baselines.append(baseline)
            clean.append(stream)
            moved.append(shifted(stream, 1.0))
        file = Path(directory) / "streams.npz"
        np.savez(file, baselines=np.array(baselines), clean=np.array(clean), moved=np.array(moved), change=CHANGE)
        answer = subprocess.run(
            [python, str(PEERS / "peers.py"), str(file)], check=True, stdout=subprocess.PIPE, text=True
        )
    return {"this": ours(chosen), **json.loads(answer.stdout.splitlines()[-1])}


def ours(chosen: tuple[tuple[Profile, Array, Array], ...]) -> dict[str, Any]:
    """What the peers are measured by."""
    rows, alarms, found, never = 0, 0, [], 0
    for profile, _, clean in chosen:
        at = alarm(profile, clean, 16)
        rows, alarms = rows + (at or len(clean)), alarms + (at is not None)
        moved = alarm(profile, np.vstack([clean[:CHANGE], shifted(clean[CHANGE:], 1.0)]), 16)
        never += moved is None
        found += [moved - CHANGE] if moved is not None and moved > CHANGE else []
    return {
        "run_length": round(rows / alarms) if alarms else None,
        "longer_than": None if alarms else rows,
        "delay_1_sigma": round(float(np.mean(found)), 1) if found else None,
        "never_found": never,
    }


def run_lengths(result: dict[str, Any], count: int, progress: Callable[[str], None]) -> None:
    """Every distribution, 4 features and 30, baselines of three sizes."""
    for field in ("run_length_ratio", "run_length_ratio_other_baselines"):
        result[field], result[f"{field}_standard_error"] = {}, {}
    for baseline_rows in (1000, 150, 10_000):
        for features in (4, 30):
            for distribution in DISTRIBUTIONS:
                ratio = run_length_ratio(distribution, features, baseline_rows, count)
                field, case = "run_length_ratio", f"{distribution}, {features}"
                if baseline_rows != BASELINE:
                    field, case = "run_length_ratio_other_baselines", f"{case}, {baseline_rows}"
                result[field][case] = round(ratio.value, 2)
                result[f"{field}_standard_error"][case] = round(ratio.error, 2)
                progress(
                    f"run length over {RUN_LENGTH}: {ratio.value:.2f} ± {ratio.error:.2f} ({ratio.alarms} alarms; "
                    f"{distribution}, {features} features, baseline of {baseline_rows})"
                )


NOTHING = Report.__dataclass_fields__["expectations"].default


def main() -> int:
    """Run and print; 0."""
    options = argparse.ArgumentParser(prog="bench-drift", description=__doc__)
    options.add_argument("--streams", type=int, default=60, help="streams a case, each with its baseline (default: 60)")
    options.add_argument("--peers", metavar="PYTHON", help="an interpreter with bench/drift/requirements.txt")
    chosen = options.parse_args()
    began = time.monotonic()

    def progress(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    def tell(field: str, case: str, delay: Delay) -> None:
        rows = delay.rows
        result[field][case] = round(rows.value, 1)
        result[f"{field}_standard_error"][case] = round(rows.error, 1)
        result[f"{field}_alarmed_before"][case] = delay.early
        progress(
            f"{field} of {case}: {rows.value:.1f} ± {rows.error:.1f} rows "
            f"({delay.early} of {chosen.streams} alarmed before and left out, {delay.never} never)"
        )

    result: dict[str, Any] = {"run_length": RUN_LENGTH, "streams": chosen.streams}
    result["update_us_per_row"] = update_cost()
    progress(f"update: {result['update_us_per_row']} µs a row, by rows a request")
    result["calibration_s"] = calibration_cost()
    progress(f"calibration at load: {result['calibration_s']} s, by rows × features")
    result["delay"], result["delay_standard_error"], result["delay_alarmed_before"] = {}, {}, {}
    for size in SHIFTS:
        found = delays(lambda rows, size=size: shifted(rows, size), BASELINE, chosen.streams)  # type: ignore[misc]
        tell("delay", f"{size:g}", found)
    result["delay_other"], result["delay_other_standard_error"], result["delay_other_alarmed_before"] = {}, {}, {}
    for name, change, mix in (
        ("doubled variance", doubled_variance, {}),
        ("category mix, same mean", lambda rows: rows, {"mix": True}),
    ):
        tell("delay_other", name, delays(change, BASELINE, chosen.streams, **mix))
    run_lengths(result, chosen.streams, progress)
    result["peers"] = peers(chosen.peers, chosen.streams) if chosen.peers else {}
    for name, found in result["peers"].items():
        progress(f"{name}: {found}")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
