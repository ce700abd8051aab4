"""The command line: `python -m aiops_localcluster --help`."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from aiops_localcluster import binaries, images
from aiops_localcluster.cluster import KINDS, Cluster, open_cluster
from aiops_localcluster.controlplane import control_plane
from aiops_localcluster.errors import LocalClusterError, NotRunningError
from aiops_localcluster.progress import Lines

_ROOT = Path(__file__).resolve().parents[2]
_IMAGES = {
    "localhost/aiops-quality": "Dockerfile.inference",
    "localhost/aiops-quality-operator": "Dockerfile.operator",
    "localhost/aiops-quality-training": "Dockerfile.training",
}
_DESCRIPTION = "A real Kubernetes on this machine, for the demo and the tests."
_EPILOG = """\
The first `up` builds Kubernetes from source, which takes about 12 minutes on 2 cores; after that it takes seconds.
Built programs and images are kept in $AIOPS_QUALITY_CACHE, else $XDG_CACHE_HOME/aiops-quality, else
~/.cache/aiops-quality, for all clones. Two clones at once do not meet: each has an instance of its own.

  python -m aiops_localcluster up
  eval "$(python -m aiops_localcluster env)"     # KUBECONFIG, and kubectl and helm on PATH
  python -m aiops_localcluster kubectl get pods -A
  python -m aiops_localcluster down
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Command line without the program; the process's own by default.

    Returns:
        0, or 1 with the reason on stderr, or 130 when interrupted.
    """
    signal.signal(signal.SIGTERM, _terminate)
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except LocalClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _terminate(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aiops_localcluster",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--instance", help="name of the cluster (default: one of this clone's own)")
    common.add_argument(
        "--cluster",
        choices=KINDS,
        default=os.environ.get("CLUSTER", "local"),
        help="local: ours; kind: needs docker and kind; current: your kubeconfig's (default: $CLUSTER or local)",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, action: Callable[[Cluster, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[common])
        added.set_defaults(action=action)
        return added

    command("up", _up, "start the cluster, or find it running").add_argument(
        "--control-plane-only",
        action="store_true",
        help="API server and controllers alone, without a node and without root, until interrupted",
    )
    command("down", _down, "remove the cluster and everything it holds")
    command("status", _status, "say what runs and how to reach it; exits 1 when it cannot be used")
    command("kubeconfig", _kubeconfig, "print the path of the kubeconfig")
    command("env", _env, "print shell commands that set KUBECONFIG and PATH")
    command("build-images", _build_images, "build the images from the Dockerfiles and print their names").add_argument(
        "--load", action="store_true", help="load them into the cluster, too"
    )
    command("load", _load, "make an image that was built here usable by pods, and print its name there").add_argument(
        "image", help="name and tag"
    )
    command("binaries", _binaries, "find or build all programs and print where they are")
    for tool in ("kubectl", "helm"):
        command(tool, _become, f"run {tool} against the cluster; what follows is passed on").add_argument(
            "arguments", nargs=argparse.REMAINDER
        )
    return parser


def _run(options: argparse.Namespace) -> int:
    cluster = open_cluster(options.cluster, options.instance, Lines())
    action: Callable[[Cluster, argparse.Namespace], int] = options.action
    return action(cluster, options)


def _up(cluster: Cluster, options: argparse.Namespace) -> int:
    if options.control_plane_only:
        return _control_plane_only()
    cluster.up()
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    hint = f'eval "$(.venv/bin/python -m aiops_localcluster env --cluster {cluster.kind})" && kubectl get pods -A'
    print(f"next: {hint}   (or `make demo`)", file=sys.stderr)
    return 0


def _control_plane_only() -> int:
    progress = Lines()
    with control_plane(progress) as running:
        print(f"export KUBECONFIG={running.kubeconfig}", flush=True)
        progress("Ctrl-C stops it")
        signal.pause()
    return 0


def _down(cluster: Cluster, _options: argparse.Namespace) -> int:
    cluster.down()
    return 0


def _status(cluster: Cluster, _options: argparse.Namespace) -> int:
    print(cluster.status())
    return 0 if cluster.is_running() else 1


def _kubeconfig(cluster: Cluster, _options: argparse.Namespace) -> int:
    print(_running(cluster).kubeconfig)
    return 0


def _env(cluster: Cluster, _options: argparse.Namespace) -> int:
    folders = ":".join(str(cluster.tool(name).parent) for name in ("kubectl", "helm"))
    print(f"export KUBECONFIG={shlex.quote(str(_running(cluster).kubeconfig))}")
    print(f'export PATH={shlex.quote(folders)}:"$PATH"')
    return 0


def _build_images(cluster: Cluster, options: argparse.Namespace) -> int:
    for name, dockerfile in _IMAGES.items():
        reference = images.build(_ROOT / dockerfile, name, _ROOT, progress=cluster.progress)
        print(cluster.load(reference) if options.load else reference)
    return 0


def _load(cluster: Cluster, options: argparse.Namespace) -> int:
    print(cluster.load(options.image))
    return 0


def _binaries(cluster: Cluster, _options: argparse.Namespace) -> int:
    for source in binaries.SOURCES:
        for program, path in binaries.ensure(*source.programs, progress=cluster.progress).paths.items():
            print(f"{program} {path}")
    return 0


def _running(cluster: Cluster) -> Cluster:
    if not cluster.is_running():
        message = "the cluster is not running: `python -m aiops_localcluster up` starts it"
        raise NotRunningError(message)
    return cluster


def _become(cluster: Cluster, options: argparse.Namespace) -> NoReturn:
    tool, given = options.command, options.arguments
    passed = given[1:] if given[:1] == ["--"] else given
    program = cluster.tool(tool)
    os.environ["KUBECONFIG"] = str(_running(cluster).kubeconfig)
    os.execv(program, [tool, *passed])  # noqa: S606 - this process becomes the tool, without a shell


if __name__ == "__main__":
    sys.exit(main())
