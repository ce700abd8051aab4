from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_localcluster.errors import LocalClusterError
from aiops_localcluster.instance import NETWORKS, Instance, Network, default_instance, pick_network
from aiops_localcluster.network import networks

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?", fullmatch=True)
NUMBERS = st.integers(0, NETWORKS - 1)


@given(NAMES, NAMES)
def test_what_two_instances_own_never_has_the_same_name(first: str, second: str) -> None:
    """Folder, lock, link and control group are named after the instance alone."""
    a, b = Instance(first), Instance(second)
    same = first == second

    assert {
        "state": a.state == b.state,
        "lock": a.lock == b.lock,
        "interface": a.interface == b.interface,
        "cgroup": a.cgroup == b.cgroup,
    } == dict.fromkeys(("state", "lock", "interface", "cgroup"), same)


@given(NAMES)
def test_interface_names_fit_into_the_kernels_15_characters(name: str) -> None:
    """A longer one would be refused."""
    assert len(Instance(name).interface) <= 15


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a/b", "..", "a" * 21, "a\n"])
def test_unusable_names_are_refused(name: str) -> None:
    """The name becomes part of paths."""
    with pytest.raises(LocalClusterError, match="use at most 20 lower-case letters"):
        Instance(name)


def test_default_instance_is_the_same_every_time() -> None:
    """It is named after the clone's place."""
    assert default_instance() == default_instance()


def test_addresses_of_a_network() -> None:
    """The slices of the shared ranges, spelled out."""
    network = Network(3)

    assert (network.host, network.node, str(network.link), str(network.pods), str(network.services)) == (
        "10.89.3.1",
        "10.89.3.2",
        "10.89.3.0/30",
        "10.244.3.0/24",
        "10.96.48.0/20",
    )


@given(NUMBERS, NUMBERS)
def test_two_networks_share_no_address(first: int, second: int) -> None:
    """Only a network overlaps itself."""
    a, b = Network(first), Network(second)

    assert any(x.overlaps(y) for x in a.ranges for y in b.ranges) == (first == second)


@given(NAMES, st.sets(NUMBERS, max_size=NETWORKS - 1))
def test_a_reserved_network_is_never_picked(name: str, reserved: set[int]) -> None:
    """As long as one is free, it is found."""
    assert pick_network(name, reserved, ()).number not in reserved


def test_a_network_that_the_machine_uses_is_not_picked() -> None:
    """A route of a VPN into the first choice moves the cluster to the next slice."""
    first = pick_network("demo", (), ())
    vpn = IPv4Network(first.pods)

    assert pick_network("demo", (), (vpn,)) == Network((first.number + 1) % NETWORKS)


def test_no_free_network_is_an_error() -> None:
    """All slices reserved."""
    with pytest.raises(LocalClusterError, match="no free addresses"):
        pick_network("demo", range(NETWORKS), ())


def test_routes_become_networks() -> None:
    """The default route and IPv6 say nothing about what is in use."""
    destinations = ["default", "0.0.0.0/0", "192.0.2.7", "10.244.0.0/16", "fe80::/64"]

    assert list(networks(destinations)) == [IPv4Network("192.0.2.7/32"), IPv4Network("10.244.0.0/16")]
