"""What holds for every test."""

import os
from collections import Counter

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "aiops",
    deadline=None,  # time is measured in benchmarks; a machine may be busy
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),  # where it decides on a change it asks the same questions each time
)
hypothesis.settings.load_profile("aiops")

# Fixtures of more than one folder.
pytest_plugins = ["artifactserver", "controlplane", "operatorprocess", "serverprocess"]


MEASURED = pytest.StashKey()
SECONDS = Counter()  # by folder of tests, fixtures included


@pytest.fixture
def measured(request):
    """Figures by name, shown after the run: seen, not judged."""
    return request.config.stash.setdefault(MEASURED, {})


def pytest_runtest_logreport(report):
    """Add up what each folder of tests takes."""
    SECONDS["/".join(report.nodeid.split("/")[:2])] += report.duration


def pytest_terminal_summary(terminalreporter, config):
    """Show what was measured, and how long each folder took."""
    for folder, seconds in SECONDS.items():
        terminalreporter.write_line(f"phase: {folder}: {seconds:.0f} s")
    for name, value in config.stash.get(MEASURED, {}).items():
        terminalreporter.write_line(f"measured: {name}: {value}")


def pytest_sessionfinish(session, exitstatus):
    """A skipped test is a check that was not made: the run fails with it."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == pytest.ExitCode.OK and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
