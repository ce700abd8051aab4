import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

from aiops_localcluster import control_plane, ensure
from aiops_localcluster.errors import StartError

# A shell that runs tests in the background has them ignore SIGINT, and whatever they start.
HOLD = """
import signal, time
from aiops_localcluster import control_plane
signal.signal(signal.SIGINT, signal.default_int_handler)
with control_plane() as running:
    print(running.state, running.pid, flush=True)
    time.sleep(600)
"""


def _of(state: str) -> list[str]:
    """Command lines of the processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if state in line:
            found.append(line)
    return found


def test_controllers_work_and_nothing_is_left() -> None:
    """A Deployment gets its ReplicaSet, and loses it by garbage collection; then processes and folder are gone."""
    kubectl = ensure("kubectl")["kubectl"]

    def run(*arguments: str) -> str:
        command = [str(kubectl), f"--kubeconfig={cluster.kubeconfig}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def replica_sets() -> list[object]:
        found: list[object] = json.loads(run("get", "replicasets", "--output=json"))["items"]
        return found

    with control_plane() as cluster:
        state = str(cluster.state)
        run("create", "deployment", "web", "--image=localhost/web:1")
        appeared = until(lambda: len(replica_sets()) == 1, seconds=60)
        run("delete", "deployment", "web", "--wait=false")
        vanished = until(lambda: not replica_sets(), seconds=60)
        may = run("auth", "can-i", "--list", "--as=system:serviceaccount:default:default")

    assert (appeared, vanished) == (True, True)
    assert "deployments" not in may
    assert (_of(state), Path(state).exists()) == ([], False)


@pytest.mark.parametrize("victim", ["caller", "supervisor"])
def test_nothing_is_left_when_it_is_killed(victim: str) -> None:
    """SIGKILL of the process that holds the with block, or of the one that holds the daemons, ends the daemons."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        state, pid = caller.stdout.readline().split()
        before = len(_of(state))
        os.kill(caller.pid if victim == "caller" else int(pid), signal.SIGKILL)
        ended = until(lambda: not _of(state), seconds=60)
        if victim == "supervisor":
            caller.send_signal(signal.SIGINT)
        caller.wait(timeout=20)
    gone = until(lambda: not Path(state).exists(), seconds=60)

    assert (before, ended, gone) == (4, True, True)


def test_a_daemon_that_cannot_start_is_named_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error shows the end of its log and says where all logs are."""
    broken = tmp_path / "assets" / "kube-apiserver"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'panic: no luck' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(broken.parent))

    with (
        pytest.raises(StartError, match=r"(?s)kube-apiserver ended with code 3.*panic: no luck.*all logs: "),
        control_plane(),
    ):
        pass
