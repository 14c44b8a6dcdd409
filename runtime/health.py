"""The pages under `/actuator/`, in the shapes of Spring Boot's, which the platform's tools can read."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from importlib import metadata
from typing import Any, Final

_log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 3.0
"""How long the checks may take; they run concurrently, and one without an answer means DOWN."""

_DISTRIBUTION: Final = "bookticket-payment-service"

NO_STORE: Final = {"cache-control": "no-store"}
METRICS_MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format, in the version that every scraper accepts."""
INDEX_MEDIA_TYPE: Final = "application/vnd.spring-boot.actuator.v3+json"
"""Spring's media type, by which its tools recognise the index."""

Check = Callable[[], Awaitable[bool]]
"""Whether a part can be used; NotReadyError says why not, and every other error that it cannot."""


class NotReadyError(Exception):
    """A part cannot be used; the text says why, and anybody may read it on the health page."""


class Status(StrEnum):
    """The status of a part, the best first. The worst part's status is that of the whole."""

    UP = "UP"
    OUT_OF_SERVICE = "OUT_OF_SERVICE"
    DOWN = "DOWN"


@dataclass(frozen=True, kw_only=True)
class Page:
    """An answer, which no cache may keep: see `NO_STORE`."""

    status: int = HTTPStatus.OK
    body: bytes
    media_type: str = "application/json"


ReadPage = Callable[[], Awaitable[Page]]


@dataclass(frozen=True, kw_only=True)
class Health:
    """The parts that this process depends on, by name; `is_leaving` while it stops or drains."""

    checks: Mapping[str, Check]
    is_leaving: Callable[[], bool]
    details: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
    """What is known of parts that never make the process unready, by name."""
    check_seconds: float = CHECK_SECONDS

    async def readiness(self, **members: Any) -> Page:
        """Whether the process can do its work: 200 or 503, with the parts."""
        leaving = self.is_leaving()
        checks = {} if leaving else self.checks  # its connections are closing: a check would open them anew
        found = await asyncio.gather(*(self._status(name, check) for name, check in checks.items()))
        components: dict[str, dict[str, Any]] = dict(zip(checks, found, strict=True))
        components["readinessState"] = {"status": Status.OUT_OF_SERVICE if leaving else Status.UP}
        whole = max((each["status"] for each in components.values()), key=list(Status).index)
        components |= {name: {"status": Status.UP, "details": known} for name, known in self.details().items()}
        return Page(
            status=HTTPStatus.OK if whole is Status.UP else HTTPStatus.SERVICE_UNAVAILABLE,
            body=_json({"status": whole, "components": components, **members}),
        )

    async def health(self) -> Page:
        """The same, with the names of the groups."""
        return await self.readiness(groups=["liveness", "readiness"])

    async def _status(self, name: str, check: Check) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self.check_seconds):
                return {"status": Status.UP if await check() else Status.DOWN}
        except NotReadyError as error:
            return {"status": Status.DOWN, "details": {"reason": str(error)}}
        except Exception as error:  # noqa: BLE001 - however it fails, the part cannot be used
            _log.debug("the check of %s failed (%s)", name, type(error).__name__)
            return {"status": Status.DOWN}


@dataclass(frozen=True, kw_only=True)
class Build:
    """Name, version and commit of the program; `commit` is empty if unknown."""

    name: str
    version: str
    commit: str

    @classmethod
    def installed(cls, name: str, *, commit: str | None) -> "Build":
        """The build of the installed distribution."""
        return cls(name=name, version=metadata.version(_DISTRIBUTION), commit=commit or "")

    def page(self) -> Page:
        """The page `info`."""
        git = {"git": {"commit": {"id": self.commit}}} if self.commit else {}
        build = {"name": self.name, "version": self.version}
        return Page(body=_json({"build": build, **git}))


def pages(*, health: Health, build: Build, metrics: Callable[[], Awaitable[bytes]]) -> dict[str, ReadPage]:
    """The pages of a process by path. `metrics` answers in Prometheus' text format."""

    async def liveness() -> Page:
        """The process answers. It depends on nothing: a restart of the process repairs no broker."""
        return Page(body=b'{"status":"UP"}')

    async def info() -> Page:
        return build.page()

    async def prometheus() -> Page:
        return Page(body=await metrics(), media_type=METRICS_MEDIA_TYPE)

    return {
        "/actuator/health": health.health,
        "/actuator/health/liveness": liveness,
        "/actuator/health/readiness": health.readiness,
        "/actuator/info": info,
        "/actuator/prometheus": prometheus,
    }


ACTUATOR: Final = "/actuator"
INDEXES: Final = ("/", ACTUATOR)
"""Where `index` answers."""


def index(path: str, *, host: str, paths: Iterable[str], documents: Mapping[str, str]) -> Page:
    """The page at one of `INDEXES`: links to the pages among `paths`, at `/` also to the documents (path by name).

    As Spring's, whose tools follow absolute links: `host` is the request's own, empty in HTTP/1.0.
    """
    origin = f"http://{host}" if host else ""
    found = {name: each for each in paths if "/" not in (name := each.removeprefix(f"{ACTUATOR}/"))}
    if path != ACTUATOR:
        found |= {"actuator": ACTUATOR, **documents}
    links = {name: {"href": origin + address, "templated": False} for name, address in {"self": path, **found}.items()}
    if "health" in found:
        links["health-path"] = {"href": f"{origin}{ACTUATOR}/health/{{*path}}", "templated": True}
    return Page(body=_json({"_links": links}), media_type=INDEX_MEDIA_TYPE)


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
