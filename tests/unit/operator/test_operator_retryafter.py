"""What is read from the header Retry-After."""

import pytest

from aiops_operator import retryafter


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0", 0.0),
        ("5", 5.0),
        ("060", 60.0),
        ("61", 60.0),
        ("9" * 5000, 60.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("1e3", None),
        ("inf", None),
        ("soon", None),
        ("²", None),
        ("٣", None),
        ("5, 5", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None),
    ],
)
def test_seconds_are_read_and_bounded(header, expected):
    """Whole seconds, a minute at most; anything else says nothing."""
    assert expected == retryafter.seconds(header, 60.0)
