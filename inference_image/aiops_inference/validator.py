"""The process of its own that Great Expectations runs in: rows on stdin, verdicts on stdout.

Run by `aiops_inference.expectations` as `python -m aiops_inference.validator`, never by hand. It imports nothing of the server,
and the server imports nothing of it but the two functions that are pure. One process, one asset, one batch at a time:
threads that share an asset get wrong verdicts without an error.

The wire: the parent writes one line `{"suite": …, "features": […]}`, then for each batch one line `{"rows": n}` and n·F
float64 values, row by row. The process answers the first line and each batch with one line `{"state": …, …}`. It ends
when stdin does, which is also how it notices that the parent is gone.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, Final

import numpy as np

NICENESS: Final = 10  # predictions come first
MAX_FAILED: Final = 100
MAX_TEXT: Final = 1000

Verdict = dict[str, Any]
Validate = Callable[[np.ndarray[Any, np.dtype[np.float64]]], Verdict]


class SuiteError(Exception):
    """The suite cannot be applied; its text says why."""


def check_suite(document: object) -> Mapping[str, Any]:
    """The suite as Great Expectations 1.x takes it.

    Raises:
        SuiteError: another form, with what to do about it.
    """
    if not isinstance(document, Mapping):
        message = "the suite is not a JSON object"
        raise SuiteError(message)
    expectations = document.get("expectations")
    if "expectation_suite_name" in document or any(
        isinstance(entry, Mapping) and "expectation_type" in entry
        for entry in (expectations if isinstance(expectations, list) else ())
    ):
        message = (
            "the suite has the form of Great Expectations 0.18 (expectation_suite_name, expectation_type);"
            " 1.x wants name and, in each expectation, type"
        )
        raise SuiteError(message)
    if not isinstance(expectations, list) or not expectations:
        message = "the suite has no expectations"
        raise SuiteError(message)
    return document


def summarize(results: Iterable[tuple[str, bool, str]], rows: int) -> Verdict:
    """One verdict from the results of all expectations.

    Args:
        results: `type(column)`, whether it holds, and the text of the exception where it could not be evaluated ("" otherwise).
        rows: how many were validated.

    An expectation that could not be evaluated, such as one on a column that is not there, says nothing about the data: it
    is an error of the suite. One that failed is drift, whatever the others did.
    """
    outcomes = list(results)
    failed = [name for name, success, exception in outcomes if not success and not exception]
    broken = [f"{name}: {exception}" for name, success, exception in outcomes if not success and exception]
    message = f"{len(broken)} of {len(outcomes)} expectations cannot be evaluated: {broken[0]}" if broken else ""
    state = "failed" if failed else "error" if broken else "passed"
    return {
        "state": state,
        "evaluated_rows": rows,
        "failed": [name[:MAX_TEXT] for name in sorted(failed)[:MAX_FAILED]],
        "message": message[:MAX_TEXT],
    }


def label(kind: str, kwargs: Mapping[str, Any]) -> str:
    """An expectation as people name it: `expect_column_values_to_be_between(petal length (cm))`."""
    columns = kwargs.get("column") or kwargs.get("column_list") or kwargs.get("column_set")
    if columns is None:
        columns = [kwargs[key] for key in ("column_A", "column_B") if key in kwargs]
    return f"{kind}({columns if isinstance(columns, str) else ', '.join(map(str, columns))})"


def load(suite: Mapping[str, Any], features: list[str]) -> Validate:
    """Import Great Expectations, which takes seconds, and make the one asset of this process.

    Raises:
        SuiteError: Great Expectations does not take the suite, or silently leaves a part of it out.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx  # noqa: PLC0415 - seconds and 200 MB, for this process alone
    import pandas as pd  # noqa: PLC0415 - as above
    from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: PLC0415 - as above

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    context.variables.analytics_enabled = False
    try:
        loaded = context.suites.add(gx.ExpectationSuite(**suite))
    except Exception as error:
        message = f"Great Expectations does not take the suite: {' '.join(str(error).split())}"
        raise SuiteError(message) from error
    # An expectation of an unknown type is dropped with a line in a log that nobody reads.
    missing = [
        str(entry.get("type") if isinstance(entry, Mapping) else entry)
        for entry in suite["expectations"]
        if not isinstance(entry, Mapping)
        or entry.get("type") not in {known.expectation_type for known in loaded.expectations}
    ]
    if missing or len(loaded.expectations) != len(suite["expectations"]):
        message = (
            f"Great Expectations {gx.__version__} does not know all expectations of the suite: {', '.join(missing)}"
        )
        raise SuiteError(message)
    batches = (
        context.data_sources.add_pandas("requests")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("batch")
    )

    def validate(rows: np.ndarray[Any, np.dtype[np.float64]]) -> Verdict:
        batch = batches.get_batch(batch_parameters={"dataframe": pd.DataFrame(rows, columns=features)})
        outcome = batch.validate(loaded, result_format="BOOLEAN_ONLY")
        return summarize(
            (
                (
                    _label_of(result.expectation_config),
                    bool(result.success),
                    _exception_text(result.exception_info),
                )
                for result in outcome.results
            ),
            len(rows),
        )

    return validate


def serve(
    requests: BinaryIO, answers: BinaryIO, make: Callable[[Mapping[str, Any], list[str]], Validate] = load
) -> None:
    """Answer until `requests` ends."""

    def answer(verdict: Verdict) -> None:
        answers.write(json.dumps(verdict).encode() + b"\n")
        answers.flush()

    start = json.loads(requests.readline())
    features = start["features"]
    try:
        try:
            document = json.loads(start["suite"])
        except ValueError as error:
            message = f"the suite is not JSON: {error}"
            raise SuiteError(message) from error
        validate = make(check_suite(document), features)
    except SuiteError as error:
        answer({"state": "error", "evaluated_rows": 0, "failed": [], "message": str(error)[:MAX_TEXT]})
        return
    answer({"state": "pending", "evaluated_rows": 0, "failed": [], "message": ""})
    while header := requests.readline():
        count = json.loads(header)["rows"]
        content = requests.read(count * len(features) * 8)
        if len(content) < count * len(features) * 8:
            return
        try:
            verdict = validate(np.frombuffer(content, dtype=np.float64).reshape(count, len(features)))
        except Exception as error:  # noqa: BLE001 - whatever one batch does, the next one has its turn
            text = f"the validation broke: {type(error).__name__}: {' '.join(str(error).split())}"
            verdict = {"state": "error", "evaluated_rows": count, "failed": [], "message": text[:MAX_TEXT]}
        answer(verdict)


def main() -> None:
    """Serve on the process's own streams."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    os.nice(NICENESS)
    # Nothing that a library prints may end up among the verdicts.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)


def _label_of(config: Any) -> str:  # noqa: ANN401 - a type of Great Expectations, which is not imported yet
    return label(config.type, config.kwargs)


def _exception_text(info: object) -> str:
    """The message in an `exception_info`: one record, or one for each metric that could not be computed."""
    if not isinstance(info, Mapping):
        return ""
    records = [info] if "raised_exception" in info else list(info.values())
    for record in records:
        if isinstance(record, Mapping) and record.get("raised_exception"):
            return " ".join(str(record.get("exception_message") or "it raised").split())
    return ""


if __name__ == "__main__":
    main()
