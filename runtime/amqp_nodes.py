"""The nodes of RabbitMQ that `AMQP_URL` names: `amqp://user:password@host1:5672,host2:5672/vhost?query`.

The client libraries know URLs of one node. Here a list becomes those URLs, which are tried in turn.
"""

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiormq
from aiormq.base import Base
from aiormq.exceptions import AMQPConnectionError

HEARTBEAT_SECONDS: Final = 5
"""RabbitMQ sends one twice in this time. By default it and its clients notice each other's death after minutes."""

RECONNECT_SECONDS: Final = 1.0
"""The pause, jittered, after the loss of a connection. RabbitMQ 3.10 answers with nacks for ever on a channel that was
opened within 40 ms of the death of another node: quorum queues had no leader then, and the channel never learns of the
next one."""

PORTS: Final = {"amqp": 5672, "amqps": 5671}
_NODE: Final = re.compile(r"(?:\[(?P<ipv6>[^\]]+)\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?", re.ASCII | re.IGNORECASE)
_LAST_PORT: Final = 65535

Connected = TypeVar("Connected")


def node_urls(url: str) -> tuple[str, ...]:
    """The URL of each node, in the order of the list.

    Raises:
        ValueError: its text ends a sentence that says how the list must be written, without values.
    """
    # Not by `urlsplit`, which takes the list for one host, and refuses some.
    before, at_nodes, after = _split(url)
    if not all(map(_is_node, nodes := at_nodes.split(","))):
        raise ValueError("must name RabbitMQ's nodes as host or host:port, with a comma and nothing else between them")
    return tuple(f"{before}{node}{after}" for node in nodes)


def host_and_port(node_url: str) -> tuple[str, int]:
    """Where one node listens."""
    parts = urlsplit(node_url)
    return parts.hostname or "", parts.port or PORTS[parts.scheme]


def address(node_url: str) -> str:
    """The same as `host:port` for the log; the URL itself may hold a password."""
    host, port = host_and_port(node_url)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def leave_silent_nodes() -> None:
    """Have aiormq leave a node after two missed heartbeats, with an error, for all connections. Repeating is harmless.

    It allows three and three seconds, so that a node that hangs would be left after 18 to 20 s. Then it cancels whoever
    waits for the node: a background task ended by that, and nobody noticed.
    """
    aiormq.Connection.HEARTBEAT_GRACE_MULTIPLIER = 1
    aiormq.Connection.close = _close  # type: ignore[method-assign]


async def _close(self: Base, exc: Any = asyncio.CancelledError, timeout: Any = None) -> None:  # noqa: ASYNC109 - aiormq's
    if exc is asyncio.CancelledError or isinstance(exc, asyncio.CancelledError):
        exc = AMQPConnectionError("no answer")
    await Base.close(self, exc, timeout)


async def connect_to_any(url: str, connect: Callable[[str], Awaitable[Connected]]) -> Connected:
    """What `connect` answers for the first node that lets us in; each try has to end by itself.

    Raises what the last node raised.
    """
    leave_silent_nodes()
    *others, last = node_urls(url)
    for node in others:
        try:
            return await connect(node)
        except Exception:  # noqa: BLE001, S112 - whatever is wrong with one node, another may be well
            continue
    return await connect(last)


def _split(url: str) -> tuple[str, str, str]:
    """What comes before the nodes, the nodes, what comes after. The user or the password may hold an unescaped `@`."""
    scheme, slashes, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    user, at, nodes = authority.rpartition("@")
    return f"{scheme.lower()}{slashes}{user}{at}", nodes, rest[len(authority) :]


def _is_node(text: str) -> bool:
    if (found := _NODE.fullmatch(text)) is None or not 0 < int(found["port"] or 1) <= _LAST_PORT:
        return False
    try:
        ipaddress.IPv6Address(found["ipv6"] or "::1")
    except ValueError:
        return False
    return True
