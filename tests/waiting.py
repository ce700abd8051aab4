"""Waiting on conditions: the one way in which tests wait."""

import time
from collections.abc import Callable
from typing import Any

import pytest


def until(
    look: Callable[[], Any],
    good: Callable[[Any], Any] = bool,
    seconds: float = 60,
    explain: Callable[[], str] = lambda: "",
    every: float = 0.05,
) -> Any:
    """Look every so many seconds until what is seen is good, and return it; fail in the end with what was seen last."""
    deadline = time.monotonic() + seconds
    while not good(seen := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"not seen within {seconds} s; last seen: {seen}\n{explain()}")
        time.sleep(every)  # between two looks, not instead of one
    return seen
