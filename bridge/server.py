"""The HTTP server, which on a signal drains, leaves Eureka and finishes what it has begun."""

import asyncio
import contextlib
import logging
from types import FrameType
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI

from bridge.app import Lifecycle
from bridge.rpc_client import RpcClient
from bridge.uvicorn_protocol import BridgeProtocol
from runtime.http_server import HttpServer

if TYPE_CHECKING:
    from bridge.eureka import EurekaRegistration  # brings httpx, which a bridge without Eureka does not need

_log = logging.getLogger("bridge")

STOP_MARGIN_SECONDS: Final = 2


class Server(HttpServer):
    """Our server with a drain, a registration in Eureka, and exit status 0 after a signal.

    With `drain_seconds` the first signal refuses nothing: callers that found this bridge in Eureka still call it.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        request_seconds: float,
        lifecycle: Lifecycle,
        rpc_client: RpcClient,
        registration: "EurekaRegistration | None",
        drain_seconds: float,
    ) -> None:
        """`request_seconds`: the longest that a request takes, long polls excepted."""
        # Without the two layers of the application itself: they are for its own telemetry, and for errors.
        served, stop_seconds = app.middleware_stack, int(request_seconds) + STOP_MARGIN_SECONDS
        super().__init__(served, protocol=BridgeProtocol, stop_seconds=stop_seconds)
        self._lifecycle = lifecycle
        self._rpc_client = rpc_client
        self._registration = registration
        self._drain_seconds = drain_seconds
        self._drain_ends_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """First signal: drain, if so configured. Next: refuse new requests, finish those begun. Next: exit."""
        if self._drain_seconds and not self._lifecycle.draining:
            self._lifecycle.draining = True
            return
        self.stop()

    async def main_loop(self) -> None:
        """Serve until the process is to exit, registered in Eureka if there is one."""
        async with self._registration or contextlib.nullcontext():
            await super().main_loop()

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second, between two steps of the loop; a signal may interrupt any step."""
        now = asyncio.get_running_loop().time()
        if self._lifecycle.draining and self._drain_ends_at is None:
            _log.info("Draining for %g s; another signal ends it.", self._drain_seconds)
            self._drain_ends_at = now + self._drain_seconds
            if self._registration is not None:
                self._registration.leave()
        if self._drain_ends_at is not None and now >= self._drain_ends_at and not self.should_exit:
            self.stop()
        if self._rpc_client.distrust is not None:
            self.should_exit = True
        if self.should_exit:
            self._rpc_client.end_long_polls()
        return await super().on_tick(counter)

    def stop(self) -> None:
        """Refuse new requests, and finish those begun; the second time, exit."""
        self._lifecycle.stopping = True
        super().stop()
