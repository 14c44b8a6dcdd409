"""The bridge in Eureka, where callers built on Spring Cloud look for `PAYMENT-SERVICE`.

The library's own client registers an instance again after it was told to stop. So only its single calls are used, by
one task that does one thing at a time: register, renew, and when told so withdraw. Nothing here may fail the bridge.
"""

import asyncio
import contextlib
import ipaddress
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self
from urllib.error import HTTPError
from urllib.parse import urlsplit

from py_eureka_client import INSTANCE_STATUS_OUT_OF_SERVICE, INSTANCE_STATUS_UNKNOWN, INSTANCE_STATUS_UP, eureka_basic

from contracts import addresses

_log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 30.0
"""Netflix's servers count heartbeats and expect this pace of everybody."""
LEASE_SECONDS: Final = 45
"""Netflix's server adds it at each heartbeat and again when it looks for the dead: who is silent for 90 s is dead."""
CALL_SECONDS: Final = 5.0
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Short: a restarted Eureka knows nobody, and callers that look there meanwhile find nobody."""
_NOWHERE: Final = {4: "192.0.2.1", 6: "2001:db8::1"}
"""By IP version, addresses that nobody has (RFC 5737, RFC 3849), to ask for the default route. Nothing is sent."""


@dataclass(kw_only=True)
class Registration:
    """Keeps the bridge registered while the context lasts.

    `peers` are Eureka's base addresses, as Java's `eureka.client.serviceUrl.defaultZone` has them, credentials
    percent-encoded. `host` is what callers shall resolve; None: the address that leads to this machine.
    `listens_at` is the listening socket's own address.
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
    _told: str = field(default="", init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._queue = deque(self.peers)

    async def __aenter__(self) -> Self:
        """Begin; returns at once, whether or not there is a Eureka."""
        self._task = asyncio.create_task(self._live(), name="eureka-registration")
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Withdraw, unless that is done already; it takes no longer than one call."""
        self.leave()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self.call_seconds)
            self._task.cancel()
            await asyncio.wait([self._task])

    def leave(self) -> None:
        """Withdraw from Eureka as soon as a call under way is over; tried until it is done or the context ends."""
        self._leaving.set()

    async def _live(self) -> None:
        instance = await self._instance()
        wait, pause = 0.0, FIRST_PAUSE_SECONDS
        while not await self._told_to_leave_within(wait):
            if await self._ask(lambda peer: self._renew(peer, instance)):
                wait, pause = self.heartbeat_seconds, FIRST_PAUSE_SECONDS
            else:
                wait, pause = _jittered(pause), min(pause * 2, LONGEST_PAUSE_SECONDS)
        pause = FIRST_PAUSE_SECONDS
        while not await self._ask(lambda peer: self._withdraw(peer, instance)):
            await asyncio.sleep(_jittered(pause))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _told_to_leave_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._leaving.wait()
        return self._leaving.is_set()

    async def _ask(self, call: Callable[[str], Awaitable[None]]) -> bool:
        """Whether a peer took the call: the one that took the last, else the next."""
        failures = []
        for _ in self.peers:
            peer = self._queue[0]
            try:
                async with asyncio.timeout(self.call_seconds):
                    await call(peer)
            except Exception as error:  # noqa: BLE001 - whatever it was, payments must go on without Eureka
                failures.append(f"{_name(peer)}: {_reason(error)}")  # never the error's text: it may hold the address
                self._queue.rotate(-1)
            else:
                return True
        self._tell("unreachable", logging.WARNING, "No Eureka takes our calls (%s). Going on.", ", ".join(failures))
        return False

    async def _renew(self, peer: str, instance: Any) -> None:
        if self._is_registered:
            with _not_found() as unknown:
                await eureka_basic.send_heartbeat(
                    peer, instance.app, instance.instanceId, instance.lastDirtyTimestamp, instance.status
                )
            if not unknown:
                self._tell_registered(peer, instance)
                return
            self._is_registered = False
        await eureka_basic.register(peer, instance)
        self._is_registered = True
        self._registrations += 1
        self._tell_registered(peer, instance)

    async def _withdraw(self, peer: str, instance: Any) -> None:
        """First out of service, so that whoever reads the changes sees it go; what is unknown there has left."""
        name = instance.app, instance.instanceId
        with _not_found():
            await eureka_basic.status_update(
                peer, *name, instance.lastDirtyTimestamp, status=INSTANCE_STATUS_OUT_OF_SERVICE
            )
        with _not_found():
            await eureka_basic.cancel(peer, *name)
        self._tell("left", logging.INFO, "Deregistered from Eureka at %s.", _name(peer))

    def _tell_registered(self, peer: str, instance: Any) -> None:
        where = _name(peer)
        text = "Registered in Eureka at %s as %s."
        state = f"registered at {where} for the {self._registrations}th time"  # again is news, even at the same peer
        self._tell(state, logging.INFO, text, where, instance.instanceId)

    def _tell(self, state: str, level: int, text: str, *arguments: object) -> None:
        """One line per change of state, however often it is found to be so."""
        if state != self._told:
            self._told = state
            _log.log(level, text, *arguments)

    async def _instance(self) -> Any:
        """The registration in Eureka's words, which are those of Spring's `eureka.instance.*`."""
        ip_address = await _own_address(self.listens_at[0], self.peers)
        host = self.host or ip_address
        if addresses.is_ip_address(host):
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

    Where the bridge listens at every address, it is the one from which this machine would speak to Eureka: callers
    are on that side, and an address needs nobody who resolves it. If Eureka is on this machine, or its name cannot be
    resolved, it is the one on the default route; on a machine without a network, loopback.
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


@contextlib.contextmanager
def _not_found() -> Iterator[list[HTTPError]]:
    """Swallows a 404; yields a list that is then not empty."""
    found: list[HTTPError] = []
    try:
        yield found
    except HTTPError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        found.append(error)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _name(peer: str) -> str:
    """Host and port alone."""
    return urlsplit(peer).netloc.rpartition("@")[2]


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return str(error.code)
    return type(error.__cause__ or error).__name__  # the library wraps what went wrong
