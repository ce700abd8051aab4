import pytest

from aiops_drift import run_length


@pytest.mark.parametrize(
    ("average", "interval", "rate", "rows"),
    [
        (20_000, 3600, 1.0, 20_000.0),  # rows are taken as they are
        (None, 0, 1.0, None),  # only the mean is watched
        (None, 3600, None, 2.0**20),  # no rate yet: about a million
        (None, 86400, 1.0, 2.0**16),  # 86,400, in powers of two
        (None, 86400, 1.1, 2.0**17),
        (None, 60, 0.01, 2.0**13),  # not below 10⁴ rows
        (None, 30 * 86400, 1e6, 2.0**30),  # nor above 10⁹
    ],
)
def test_a_run_length_is_in_rows_or_follows_from_the_rate(average, interval, rate, rows):
    """Rows win; an interval is one of rows at their rate, within bounds and in powers of two."""
    assert rows == run_length(average, interval, rate)
