"""The HTTP server: uvicorn, which on a signal drains, leaves Eureka and finishes what it has begun."""

import asyncio
import contextlib
import logging
import socket
from types import FrameType
from typing import TYPE_CHECKING, Final

import uvicorn
from fastapi import FastAPI

from bridge.app import Lifecycle
from bridge.rpc_client import RpcClient
from bridge.uvicorn_protocol import BridgeProtocol
from runtime.http_protocol import KEEP_ALIVE_SECONDS, accept_pending

if TYPE_CHECKING:
    from bridge.eureka import EurekaRegistration  # brings httpx, which a bridge without Eureka does not need

_log = logging.getLogger("bridge")

STOP_MARGIN_SECONDS: Final = 2


class Server(uvicorn.Server):
    """uvicorn's server with a drain, a registration in Eureka, and exit status 0 after a signal.

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
        config = uvicorn.Config(
            app,
            http=BridgeProtocol,
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(request_seconds) + STOP_MARGIN_SECONDS,
        )
        super().__init__(config)
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
        self._stop()

    async def main_loop(self) -> None:
        """Serve until the process is to exit, registered in Eureka if there is one."""
        async with self._registration or contextlib.nullcontext():
            await super().main_loop()

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second, in the loop, and not at any point of it as a signal is."""
        now = asyncio.get_running_loop().time()
        if self._lifecycle.draining and self._drain_ends_at is None:
            _log.info("Draining for %g s; another signal ends it.", self._drain_seconds)
            self._drain_ends_at = now + self._drain_seconds
            if self._registration is not None:
                self._registration.leave()
        if self._drain_ends_at is not None and now >= self._drain_ends_at and not self.should_exit:
            self._stop()
        if self._rpc_client.distrust is not None:
            self.should_exit = True
        if self.should_exit:
            self._rpc_client.end_long_polls()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn at the end: answer who has come, and close."""
        await accept_pending()
        await super().shutdown(sockets)

    def _stop(self) -> None:
        self._lifecycle.stopping = True
        self.force_exit = self.should_exit
        self.should_exit = True
