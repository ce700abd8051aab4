"""What keeps two clusters on one machine apart: everything a cluster owns is named or numbered after its instance."""

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aiops_localcluster.errors import LocalClusterError

STATE_ROOT = Path("/var/lib/aiops-quality")
NETWORKS = 256
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?")
_CLONE = Path(__file__).resolve().parents[2]

IPv4 = ipaddress.IPv4Network


@dataclass(frozen=True)
class Instance:
    """The names of one cluster.

    Attributes:
        name: Lower-case letters, digits and dashes, at most 20.
    """

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            message = (
                f"instance name {self.name!r}: use at most 20 lower-case letters, digits and dashes, "
                "with no dash at either end"
            )
            raise LocalClusterError(message)

    @property
    def state(self) -> Path:
        """Folder of everything the cluster writes; not inside a clone, and the same for all clones."""
        return STATE_ROOT / self.name

    @property
    def lock(self) -> Path:
        """File whose lock is held by whoever starts or stops the cluster."""
        return STATE_ROOT / f".{self.name}.lock"

    @property
    def interface(self) -> str:
        """The host's end of the link to the node; an interface's name has at most 15 characters."""
        return f"aiops-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"

    @property
    def cgroup(self) -> str:
        """Control group under which every pod's stands."""
        return f"/aiops-{self.name}"

    @property
    def node(self) -> str:
        """Name of the Node object."""
        return "local"


def default_instance() -> Instance:
    """Return the instance of this clone: named after its place, so that two clones never meet."""
    return Instance(f"clone-{hashlib.sha256(str(_CLONE).encode()).hexdigest()[:8]}")


@dataclass(frozen=True)
class Network:
    """The addresses of one cluster: the n-th slice of the three ranges that local clusters share.

    Attributes:
        number: 0 to 255.
    """

    number: int

    @property
    def link(self) -> IPv4:
        """The two addresses of the link between host and node."""
        return IPv4(f"10.89.{self.number}.0/30")

    @property
    def host(self) -> str:
        """The host, as pods and node see it."""
        return str(self.link[1])

    @property
    def node(self) -> str:
        """The node, on which the API server listens too."""
        return str(self.link[2])

    @property
    def pods(self) -> IPv4:
        """Addresses of pods."""
        return IPv4(f"10.244.{self.number}.0/24")

    @property
    def services(self) -> IPv4:
        """Addresses of Services."""
        return IPv4((int(ipaddress.IPv4Address("10.96.0.0")) + self.number * 2**12, 20))

    @property
    def ranges(self) -> tuple[IPv4, IPv4, IPv4]:
        """All addresses that belong to this cluster."""
        return self.link, self.pods, self.services


def pick_network(name: str, reserved: Iterable[int], used: Iterable[IPv4]) -> Network:
    """Choose a slice that nobody has: the one the name hashes to, or the next free one after it.

    Args:
        name: Name of the instance.
        reserved: Numbers that other instances hold.
        used: Networks that the machine has routes or addresses in.

    Raises:
        LocalClusterError: All are taken.
    """
    taken, occupied = frozenset(reserved), tuple(used)
    first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % NETWORKS
    for step in range(NETWORKS):
        network = Network((first + step) % NETWORKS)
        if network.number not in taken and not any(a.overlaps(b) for a in network.ranges for b in occupied):
            return network
    message = "no free addresses for another cluster in 10.89.0.0/16, 10.96.0.0/12 and 10.244.0.0/16"
    raise LocalClusterError(message)
