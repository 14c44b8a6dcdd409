"""What the pages under `/actuator/` say, in the shapes of Spring Boot's, which platforms' tools know how to read."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from importlib import metadata
from typing import Any, Final

_log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 3.0
"""How long the parts may take to say how they are; they are asked side by side, and silence means DOWN."""

_DISTRIBUTION: Final = "bookticket-payment-service"

METRICS_MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format, in the version that every scraper reads."""

Check = Callable[[], Awaitable[bool]]


class Status(StrEnum):
    """How a part is, the best first. The worst part's is the whole's."""

    UP = "UP"
    OUT_OF_SERVICE = "OUT_OF_SERVICE"
    DOWN = "DOWN"


_WORSE: Final = list(Status)


@dataclass(frozen=True, kw_only=True)
class Page:
    """An answer: its HTTP status and its JSON."""

    status: int
    body: bytes


LIVENESS: Final = Page(status=HTTPStatus.OK, body=b'{"status":"UP"}')
"""The process answers. It depends on nothing: restarting us mends no broker."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """What this process stands on, by name; `is_leaving` while it is being stopped or its callers are sent away."""

    checks: Mapping[str, Check]
    is_leaving: Callable[[], bool]
    check_seconds: float = CHECK_SECONDS

    async def readiness(self) -> Page:
        """Whether it can do its work: 200 or 503, with the parts."""
        return await self._page()

    async def health(self) -> Page:
        """The same, and which groups there are to ask for."""
        return await self._page(groups=["liveness", "readiness"])

    async def _page(self, **members: Any) -> Page:
        leaving = self.is_leaving()
        checks = {} if leaving else self.checks  # whoever leaves closes its connections: asking would open them anew
        found = await asyncio.gather(*(self._look(name, check) for name, check in checks.items()))
        states = dict(zip(checks, found, strict=True))
        states["readinessState"] = Status.OUT_OF_SERVICE if leaving else Status.UP
        whole = max(states.values(), key=_WORSE.index)
        components = {name: {"status": state} for name, state in states.items()}
        return Page(
            status=HTTPStatus.OK if whole is Status.UP else HTTPStatus.SERVICE_UNAVAILABLE,
            body=_json({"status": whole, "components": components, **members}),
        )

    async def _look(self, name: str, check: Check) -> Status:
        try:
            async with asyncio.timeout(self.check_seconds):
                return Status.UP if await check() else Status.DOWN
        except Exception as error:  # noqa: BLE001 - in whatever way it fails, the part cannot be used
            _log.debug("the check of %s failed (%s)", name, type(error).__name__)
            return Status.DOWN


@dataclass(frozen=True, kw_only=True)
class Build:
    """Which program this is; `commit` is empty if nobody said it."""

    name: str
    version: str
    commit: str

    @classmethod
    def installed(cls, name: str, *, commit: str | None) -> "Build":
        """By the version of the distribution that is installed."""
        return cls(name=name, version=metadata.version(_DISTRIBUTION), commit=commit or "")

    def page(self) -> Page:
        """The page `info`."""
        git = {"git": {"commit": {"id": self.commit}}} if self.commit else {}
        build = {"name": self.name, "version": self.version}
        return Page(status=HTTPStatus.OK, body=_json({"build": build, **git}))


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
