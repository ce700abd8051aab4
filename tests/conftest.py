"""What holds for every test."""

import pytest


def pytest_sessionfinish(session, exitstatus):
    """A skipped test is a check that was not made: the run fails with it."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == pytest.ExitCode.OK and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
