import contextlib
import subprocess

import pytest
from serverprocess import eventually

SIZE = 64 << 10  # bytes of the disk


@pytest.fixture
def disk(tmp_path):
    """A file system so small that it can be filled; mounting it takes root, as in a container of CI."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", path], check=True, capture_output=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True, capture_output=True)


def test_a_full_disk_costs_log_lines_and_nothing_else(start, disk, healthy):
    """Predictions, counts and readiness go on; when there is room again there are lines again."""
    ballast = disk / "ballast"
    pod = start(log=disk / "log")
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    full = pod.log.stat().st_size
    for _ in range(200):
        pod.predict([[5.1, 3.5, 140, 0.2]])
    healthy(pod)
    assert 202 == pod.drift()["rows"]
    assert 200 == pod.get("/health").status_code
    assert pod.log.stat().st_size - full < 4096  # the page that was begun
    ballast.unlink()

    def line():
        pod.predict([[5.1, 3.5, 1.4, 0.2]])
        return pod.lines()[-1].startswith('INFO {"event": "prediction"')

    eventually(line, "a line in its form")
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=10)


def test_a_log_that_cannot_be_written_at_all_costs_nothing_else(start, tmp_path, healthy):
    """From the first line on."""
    (tmp_path / "log").symlink_to("/dev/full")
    pod = start(log=tmp_path / "log")
    pod.lines = list
    for _ in range(20):
        pod.predict([[5.1, 3.5, 140, 0.2]])
    healthy(pod)
    assert 22 == pod.drift()["rows"]
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=10)
