"""The node's network: a namespace of its own, one link to the host, and routes, but no rule in the host's tables."""

import contextlib
import ipaddress
import json
from collections.abc import Iterable
from pathlib import Path

from aiops_localcluster import cache
from aiops_localcluster.commands import output
from aiops_localcluster.errors import CommandError
from aiops_localcluster.instance import STATE_ROOT, Instance, IPv4, Network, pick_network
from aiops_localcluster.progress import Progress

_NODE_INTERFACE = "eth0"
_LOCK_SECONDS = 60.0
_FILE = "network.json"


def reserve(instance: Instance, progress: Progress) -> Network:
    """Choose the cluster's addresses and keep them until its folder is removed.

    Args:
        instance: The cluster; its folder is made.
        progress: Told when there is waiting.
    """
    lock = STATE_ROOT / ".networks.lock"
    with cache.locked(lock, what="choosing addresses", progress=progress, timeout=_LOCK_SECONDS, is_temporary=True):
        others = (path for path in STATE_ROOT.glob(f"*/{_FILE}") if path.parent != instance.state)
        reserved = [json.loads(path.read_text())["number"] for path in others]
        network = pick_network(instance.name, reserved, _used())
        instance.state.mkdir(parents=True, exist_ok=True)
        instance.state.chmod(0o700)
        (instance.state / _FILE).write_text(json.dumps({"number": network.number}))
        return network


def reserved(instance: Instance) -> Network | None:
    """Return the addresses that the cluster holds, if it holds any."""
    try:
        return Network(json.loads((instance.state / _FILE).read_text())["number"])
    except (FileNotFoundError, ValueError):
        return None


def connect(instance: Instance, network: Network, pid: int) -> None:
    """Link the node to the host, with routes to pods and Services.

    Args:
        instance: The cluster.
        network: Its addresses.
        pid: A process in the node's network namespace; the link goes when that namespace does.
    """
    interface, prefix = instance.interface, network.link.prefixlen
    inside = ("nsenter", f"--target={pid}", "--net", "--", "ip")
    _ip("link", "add", interface, "type", "veth", "peer", "name", _NODE_INTERFACE, "netns", str(pid))
    _ip("addr", "add", f"{network.host}/{prefix}", "dev", interface)
    _ip("link", "set", interface, "up")
    output([*inside, "addr", "add", f"{network.node}/{prefix}", "dev", _NODE_INTERFACE])
    output([*inside, "link", "set", _NODE_INTERFACE, "up"])
    output([*inside, "route", "add", "default", "via", network.host])
    for addresses in (network.pods, network.services):
        _ip("route", "add", str(addresses), "via", network.node, "dev", interface)


def disconnect(instance: Instance) -> None:
    """Remove what `connect` made; what is not there is not missed."""
    if is_connected(instance):
        with contextlib.suppress(CommandError):  # the kernel may have been faster
            _ip("link", "del", instance.interface)


def is_connected(instance: Instance) -> bool:
    """Tell whether the link to the node is there."""
    return Path("/sys/class/net", instance.interface).exists()


def _used() -> list[IPv4]:
    routes = json.loads(_ip("-json", "-4", "route", "show", "table", "all") or "[]")
    return list(networks(route["dst"] for route in routes))


def networks(destinations: Iterable[str]) -> Iterable[IPv4]:
    """Parse the destinations of routes; the default route is no network that is in use."""
    for destination in destinations:
        if destination != "default":
            network = ipaddress.ip_network(destination, strict=False)
            if isinstance(network, IPv4) and network.prefixlen:
                yield network


def _ip(*arguments: str) -> str:
    return output(["ip", *arguments])
