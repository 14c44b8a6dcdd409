"""The chart's NetworkPolicies: only the service reaches Stripe, the platform only the bridge, operators the console."""

from collections.abc import Mapping

import pytest

from tests.kubernetes.chart import HALVES, PODS, USES, pod, rendered
from tests.kubernetes.network import Direction, Peer, allows

STRIPE = Peer(address="3.18.12.63")
DATABASE = Peer(address="10.20.0.5")
BROKER = Peer(address="10.20.1.5")
BOOKING = Peer(labels={"app": "booking"}, namespace={"kubernetes.io/metadata.name": "booking"})
PROMETHEUS = Peer(labels={"app": "prometheus"}, namespace={"kubernetes.io/metadata.name": "monitoring"})
PROXY = Peer(labels={"app": "oauth2-proxy"}, namespace={"kubernetes.io/metadata.name": "login"})
STRANGER = Peer(labels={"app": "shop"}, namespace={"kubernetes.io/metadata.name": "shop"})
NEIGHBOUR = Peer(labels={"app": "anything"}, namespace={"kubernetes.io/metadata.name": "payments"}, is_here=True)
OUTSIDE = Peer(address="203.0.113.7")


def may(use: str, half: str, direction: Direction, peer: Peer, port: int, *, protocol: str = "TCP") -> bool:
    labels: Mapping[str, str] = pod(rendered(use), half)["metadata"]["labels"]
    policies = [each for each in rendered(use) if each["kind"] == "NetworkPolicy"]
    return allows(policies, labels, direction, peer, port=port, protocol=protocol)


@pytest.mark.parametrize(("use", "half"), PODS)
def test_only_the_service_reaches_stripe(use: str, half: str) -> None:
    assert may(use, half, "Egress", STRIPE, 443) is (half == "service")
    assert not may(use, half, "Egress", STRIPE, 80)


@pytest.mark.parametrize("use", USES)
def test_the_way_to_stripe_leads_to_nobody_inside(use: str) -> None:
    for address in ("10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1"):
        assert not may(use, "service", "Egress", Peer(address=address), 443)


@pytest.mark.parametrize(("use", "half"), PODS)
def test_each_half_reaches_the_servers_that_it_needs(use: str, half: str) -> None:
    assert may(use, half, "Egress", DATABASE, 5432) is (half != "bridge")
    assert may(use, half, "Egress", BROKER, 5671) is (half != "migrate")
    names = {"kubernetes.io/metadata.name": "openshift-dns" if use == "random-uid" else "kube-system"}
    assert may(use, half, "Egress", Peer(address="10.96.0.10", labels={}, namespace=names), 53, protocol="UDP")


def test_with_addresses_of_servers_nothing_else_is_reached_at_their_ports() -> None:
    assert not may("production", "service", "Egress", OUTSIDE, 5432)
    assert not may("production", "service", "Egress", BROKER, 5432)
    assert not may("production", "bridge", "Egress", OUTSIDE, 5671)


@pytest.mark.parametrize("half", HALVES)
def test_only_the_bridge_is_reached_by_the_platform(half: str) -> None:
    for port in (8085, 8086, 8087):
        assert may("production", half, "Ingress", BOOKING, port) is (half == "bridge" and port == 8085)
        assert not may("production", half, "Ingress", STRANGER, port)
        assert not may("production", half, "Ingress", OUTSIDE, port)


def test_without_a_choice_the_bridge_is_reached_from_its_own_namespace() -> None:
    assert may("smallest", "bridge", "Ingress", NEIGHBOUR, 8085)
    assert not may("smallest", "bridge", "Ingress", BOOKING, 8085)
    assert not may("smallest", "service", "Ingress", NEIGHBOUR, 8086)


def test_the_console_is_reached_by_whom_it_is_for_alone() -> None:
    for port in (8085, 8086, 8087):
        for half in HALVES:
            assert may("production", half, "Ingress", PROXY, port) is (half == "console" and port == 8087)
    others = Peer(labels={"app": "login"}, namespace={"kubernetes.io/metadata.name": "login"})
    assert not may("production", "console", "Ingress", others, 8087)


@pytest.mark.parametrize("peer", [NEIGHBOUR, STRANGER, OUTSIDE, PROMETHEUS])
def test_without_a_choice_the_console_is_reached_by_nobody(peer: Peer) -> None:
    assert not may("console", "console", "Ingress", peer, 8087)


def test_prometheus_reads_the_pages_of_each_and_nothing_of_the_migration() -> None:
    for half, port in (("bridge", 8085), ("service", 8086), ("console", 8087)):
        assert may("production", half, "Ingress", PROMETHEUS, port)
    assert not may("production", "migrate", "Ingress", PROMETHEUS, 8086)


def test_the_bridge_alone_reaches_eureka_and_only_where_there_is_one() -> None:
    eureka = Peer(labels={"app": "eureka"}, namespace={"kubernetes.io/metadata.name": "eureka"})
    assert may("eureka", "bridge", "Egress", eureka, 8761)
    assert not may("eureka", "service", "Egress", eureka, 8761)
    assert not may("eureka", "bridge", "Egress", STRANGER, 8761)
    assert not may("smallest", "bridge", "Egress", eureka, 8761)
