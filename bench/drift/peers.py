"""The seed's rule, River's ADWIN and Page-Hinkley and Evidently's default on streams that the benchmark wrote to a file.

Each is used as its documentation does: a detector for each feature, an alarm of any is an alarm; Evidently compares each 256
rows with the baseline. The last line is one JSON object.
"""

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
from river import drift

WINDOW = 256
THRESHOLD = 5.0
NAMES = ["a", "b", "c", "d"]


def seed_rule(baseline: Any, stream: Any) -> Iterator[bool]:
    """A request of one row is drift where any |row - mean| / deviation exceeds 5."""
    mean, deviation = baseline.mean(axis=0), baseline.std(axis=0)
    yield from (np.abs((stream - mean) / deviation) > THRESHOLD).any(axis=1).tolist()


def river_detectors(make: Callable[[], Any]) -> Callable[[Any, Any], Iterator[bool]]:
    """A detector for each feature, which has seen the baseline."""

    def alarms(baseline: Any, stream: Any) -> Iterator[bool]:
        detectors = [make() for _ in range(stream.shape[1])]
        for row in baseline:
            for detector, value in zip(detectors, row.tolist(), strict=True):
                detector.update(value)
        for row in stream:
            found = False
            for detector, value in zip(detectors, row.tolist(), strict=True):
                detector.update(value)
                found |= bool(detector.drift_detected)
            yield found

    return alarms


def evidently_default(baseline: Any, stream: Any) -> Iterator[bool]:
    """Any column that the preset calls drifted, each 256 rows."""
    reference = pd.DataFrame(baseline, columns=NAMES)
    for start in range(0, len(stream) - WINDOW + 1, WINDOW):
        current = pd.DataFrame(stream[start : start + WINDOW], columns=NAMES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = Report([DataDriftPreset()]).run(current, reference).dict()
        drifted = next(
            m for m in result["metrics"] if "DriftedColumnsCount" in m.get("metric_name", m.get("metric_id", ""))
        )
        yield from [False] * (WINDOW - 1)
        yield drifted["value"]["count"] > 0


def measure(alarms: Callable[[Any, Any], Iterator[bool]], data: Any, change: int) -> dict[str, Any]:
    """Run length on clean streams, and delay of 1 σ on those that were quiet until the change."""
    rows, sounded, delays, never = 0, 0, [], 0
    for baseline, clean, moved in zip(data["baselines"], data["clean"], data["moved"], strict=True):
        at = next((row + 1 for row, found in enumerate(alarms(baseline, clean)) if found), None)
        rows += at or len(clean)
        sounded += at is not None
        stream = np.vstack([clean[:change], moved[change:]])
        at = next((row + 1 for row, found in enumerate(alarms(baseline, stream)) if found), None)
        if at is None:
            never += 1
        elif at > change:
            delays.append(at - change)
    return {
        "run_length": round(rows / sounded) if sounded else None,
        "longer_than": None if sounded else rows,
        "delay_1_sigma": round(float(np.mean(delays)), 1) if delays else None,
        "never_found": never,
    }


def main() -> None:
    """Measure all, print one JSON object."""
    data = np.load(sys.argv[1])
    change = int(data["change"])
    rules = {
        "seed": seed_rule,
        "river ADWIN": river_detectors(drift.ADWIN),
        "river Page-Hinkley": river_detectors(drift.PageHinkley),
        "evidently": evidently_default,
    }
    print(json.dumps({name: measure(rule, data, change) for name, rule in rules.items()}))


if __name__ == "__main__":
    main()
