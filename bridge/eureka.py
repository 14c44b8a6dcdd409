"""The bridge's registration in Eureka, where callers built on Spring Cloud look for `PAYMENT-SERVICE`.

The library's own client registers an instance again after it was told to stop. So only its single calls are used, by
one task that does one thing at a time: register, renew, and finally withdraw. No failure here may stop the bridge.
"""

import asyncio
import contextlib
import ipaddress
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.error import HTTPError
from urllib.parse import urlsplit

from py_eureka_client import INSTANCE_STATUS_OUT_OF_SERVICE, INSTANCE_STATUS_UNKNOWN, INSTANCE_STATUS_UP, eureka_basic

from runtime import connection_urls
from runtime.aio import Backoff, wait_or_timeout

_log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 30.0
"""Netflix's servers count heartbeats and expect this interval of every instance."""
LEASE_SECONDS: Final = 45
"""Netflix's server counts it twice, at the heartbeat and when it evicts: 90 s of silence end the registration."""
CALL_SECONDS: Final = 5.0
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Short: a restarted Eureka has no instances, and callers that look there meanwhile find none."""
_NOWHERE: Final = {4: "192.0.2.1", 6: "2001:db8::1"}
"""By IP version, addresses for documentation (RFC 5737, RFC 3849), to find the default route. Nothing is sent."""


@dataclass(kw_only=True)
class EurekaRegistration:
    """Keeps the bridge registered while the context lasts.

    `peers` are Eureka's base URLs, as in Java's `eureka.client.serviceUrl.defaultZone`, credentials percent-encoded.
    `host` is the name that callers resolve; None: the address that leads to this machine. `listens_at` is the listening
    socket's own address.
    """

    peers: Sequence[str] = field(repr=False)  # may hold passwords
    app_name: str
    host: str | None
    listens_at: tuple[str, int]
    version: str
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    call_seconds: float = CALL_SECONDS
    _queue: deque[str] = field(init=False, repr=False)
    _leaving: asyncio.Event = field(default_factory=asyncio.Event, init=False, repr=False)
    _is_registered: bool = field(default=False, init=False)
    _registrations: int = field(default=0, init=False)
    _state: str = field(default="", init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._queue = deque(self.peers)

    async def __aenter__(self) -> Self:
        """Start registering; returns at once, whether or not there is a Eureka."""
        self._task = asyncio.create_task(self._run(), name="eureka-registration")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Withdraw, unless that is done already; this takes no longer than one call."""
        self.leave()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self.call_seconds)
            self._task.cancel()
            await asyncio.wait([self._task])

    def leave(self) -> None:
        """Withdraw from Eureka after a call under way; retried until Eureka takes it or the context ends."""
        self._leaving.set()

    async def _run(self) -> None:
        instance = await self._instance()
        backoff = Backoff(first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)
        pause = 0.0
        while not await wait_or_timeout(self._leaving, pause):
            if await self._ask(lambda peer: self._renew(peer, instance)):
                pause = self.heartbeat_seconds
                backoff.reset()
            else:
                pause = backoff.next_seconds()
        backoff.reset()
        while True:
            if await self._ask(lambda peer: self._withdraw(peer, instance)):
                return
            await asyncio.sleep(backoff.next_seconds())

    async def _ask(self, call: Callable[[str], Awaitable[None]]) -> bool:
        """Whether a peer took the call: first the one that took the last call is tried, then the others."""
        failures = []
        for _ in self.peers:
            peer = self._queue[0]
            try:
                async with asyncio.timeout(self.call_seconds):
                    await call(peer)
            except Exception as error:  # noqa: BLE001 - whatever it was, payments must go on without Eureka
                failures.append(f"{_name(peer)}: {_reason(error)}")  # never the error's text, which may hold a password
                self._queue.rotate(-1)
            else:
                return True
        self._log_change(
            "unreachable", logging.WARNING, "No Eureka takes our calls (%s). Going on.", ", ".join(failures)
        )
        return False

    async def _renew(self, peer: str, instance: Any) -> None:
        if self._is_registered:
            heartbeat = eureka_basic.send_heartbeat(
                peer, instance.app, instance.instanceId, instance.lastDirtyTimestamp, instance.status
            )
            self._is_registered = await _is_known(heartbeat)
        if not self._is_registered:
            await eureka_basic.register(peer, instance)
            self._is_registered = True
            self._registrations += 1
        where = _name(peer)
        state = f"registered at {where} for the {self._registrations}th time"  # logged again, even at the same peer
        self._log_change(state, logging.INFO, "Registered in Eureka at %s as %s.", where, instance.instanceId)

    async def _withdraw(self, peer: str, instance: Any) -> None:
        """Out of service first, for clients that fetch deltas; an instance that Eureka does not know has left."""
        name, timestamp = (instance.app, instance.instanceId), instance.lastDirtyTimestamp
        await _is_known(eureka_basic.status_update(peer, *name, timestamp, status=INSTANCE_STATUS_OUT_OF_SERVICE))
        await _is_known(eureka_basic.cancel(peer, *name))
        self._log_change("left", logging.INFO, "Deregistered from Eureka at %s.", _name(peer))

    def _log_change(self, state: str, level: int, text: str, *arguments: object) -> None:
        """Log once per change of state. There are more states than `LogOnChange` has: another peer is another one."""
        if state != self._state:
            self._state = state
            _log.log(level, text, *arguments)

    async def _instance(self) -> Any:
        """The registration, with the names of Spring's `eureka.instance.*`."""
        ip_address = await _own_address(self.listens_at[0], self.peers)
        host = self.host or ip_address
        if connection_urls.is_ip_address(host):
            ip_address = host
            host = f"[{host}]" if ":" in host else host
        port = self.listens_at[1]
        base = f"http://{host}:{port}"
        now = int(time.time() * 1000)
        return eureka_basic.Instance(
            instanceId=f"{host}:{self.app_name}:{port}",
            app=self.app_name.upper(),
            vipAddress=self.app_name,
            secureVipAddress=self.app_name,
            hostName=host,
            ipAddr=ip_address,
            port=eureka_basic.PortWrapper(port=port, enabled=True),
            status=INSTANCE_STATUS_UP,
            overriddenstatus=INSTANCE_STATUS_UNKNOWN,
            homePageUrl=f"{base}/",
            statusPageUrl=f"{base}/actuator/info",
            healthCheckUrl=f"{base}/actuator/health",
            leaseInfo=eureka_basic.LeaseInfo(
                renewalIntervalInSecs=int(HEARTBEAT_SECONDS), durationInSecs=LEASE_SECONDS
            ),
            metadata={"management.port": str(port), "version": self.version},
            lastUpdatedTimestamp=now,
            lastDirtyTimestamp=now,
        )


async def _own_address(listens_at: str, peers: Sequence[str]) -> str:
    """The IP address at which others reach this machine.

    If the bridge listens at every address, it is the one from which this machine would connect to Eureka: callers are
    on that side, and an address needs no DNS. If Eureka is on this machine, or its name cannot be resolved, it is the
    one on the default route; on a machine without a network, loopback.
    """
    listens = ipaddress.ip_address(listens_at)
    if not listens.is_unspecified:
        return listens_at
    targets = [urlsplit(peer).hostname or "" for peer in peers]
    for target in (*targets, _NOWHERE[listens.version]):
        with contextlib.suppress(OSError, ValueError):  # no such name, no such route, none of this IP version
            async with asyncio.timeout(CALL_SECONDS):
                transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                    asyncio.DatagramProtocol, local_addr=(listens_at, 0), remote_addr=(target, 9)
                )
            address: str = transport.get_extra_info("sockname")[0]
            transport.close()
            if not ipaddress.ip_address(address).is_loopback:
                return address
    return "127.0.0.1" if listens.version == 4 else "::1"  # noqa: PLR2004 - IP versions have no better name


async def _is_known(call: Awaitable[object]) -> bool:
    """Make a call about the instance; False if Eureka does not know it (404)."""
    try:
        await call
    except HTTPError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        return False
    return True


def _name(peer: str) -> str:
    """Host and port, without credentials."""
    return urlsplit(peer).netloc.rpartition("@")[2]


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return str(error.code)
    return type(error.__cause__ or error).__name__  # the library wraps what went wrong
