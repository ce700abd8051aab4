"""Server processes that have no expectations to validate: they start faster, and the faults here are others."""

import numpy as np
import pytest
from serverprocess import connection

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]])


@pytest.fixture
def start(run):
    """Starts pods and waits until they are ready."""

    def ready(*args, **environment):
        pod = run(*args, **{"EXPECTATIONS_PATH": "/nowhere", **environment})
        pod.ready()
        return pod

    return ready


@pytest.fixture
def healthy():
    """Asserts that a pod predicts, on a connection of its own, and has had no internal error."""

    def check(pod):
        body = b'{"inputs": [[5.1,3.5,1.4,0.2],[6.5,3.0,5.5,1.8]]}'
        with connection(
            pod, b"POST /predict HTTP/1.1\r\nHost: p\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        ) as made:
            assert b'"predictions":[0,2]' in made.recv(65536)
        assert not [line for line in pod.lines() if line.startswith("ERROR") or "raceback" in line]

    return check
