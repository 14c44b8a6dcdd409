"""What NetworkPolicies allow, by the rules of Kubernetes: no machine here has a network that would enforce them."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Direction = Literal["Ingress", "Egress"]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Whoever is at the other end: a pod with labels, in a namespace with labels, or only an address."""

    address: str = "10.244.0.9"
    labels: Mapping[str, str] | None = None
    namespace: Mapping[str, str] | None = None
    is_here: bool = False
    """Whether its namespace is that of the policies."""


def allows(
    policies: Iterable[Mapping[str, Any]],
    labels: Mapping[str, str],
    direction: Direction,
    peer: Peer,
    *,
    port: int,
    protocol: str = "TCP",
) -> bool:
    """Whether a pod with these labels may be reached by the peer, or reach it."""
    side = {"Ingress": "from", "Egress": "to"}[direction]
    chosen = [
        each["spec"]
        for each in policies
        if direction in each["spec"]["policyTypes"] and _selects(each["spec"]["podSelector"], labels)
    ]
    if not chosen:
        return True
    return any(
        _at_port(rule, port, protocol) and _is_peer(rule.get(side), peer)
        for spec in chosen
        for rule in spec.get(direction.lower(), ())
    )


def _at_port(rule: Mapping[str, Any], port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return not ports or any(each["port"] == port and each.get("protocol", "TCP") == protocol for each in ports)


def _is_peer(peers: Any, peer: Peer) -> bool:
    return not peers or any(_matches(each, peer) for each in peers)


def _matches(rule: Mapping[str, Any], peer: Peer) -> bool:
    if "ipBlock" in rule:
        address = ipaddress.ip_address(peer.address)
        block = rule["ipBlock"]
        within = address in ipaddress.ip_network(block["cidr"])
        return within and not any(address in ipaddress.ip_network(each) for each in block.get("except", ()))
    if peer.labels is None:
        return False
    of_namespace = rule.get("namespaceSelector")
    in_namespace = peer.is_here if of_namespace is None else _selects(of_namespace, peer.namespace or {})
    return in_namespace and _selects(rule.get("podSelector", {}), peer.labels)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert not selector.get("matchExpressions"), "this test knows matchLabels only"
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
