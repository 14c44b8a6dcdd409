"""The command `payment-bridge`: reads the settings, builds everything, serves until it is told to stop."""

import argparse
import asyncio
import contextlib
import dataclasses
import importlib.metadata
import logging
import logging.config
import math
import resource
import socket
import sys
from collections.abc import AsyncIterator, Callable
from types import FrameType
from typing import Final

import uvicorn
import uvloop

from bridge.app import Lifecycle, create_app
from bridge.discovery import Registration
from bridge.http import BridgeProtocol
from bridge.identity import Identity, PlatformHeaders
from bridge.keys import KeyRing, source_at
from bridge.rates import RateLimit, RateLimits
from bridge.requester import Requester
from bridge.settings import InvalidSettingsError, Settings, load
from bridge.tokens import ServiceTokens
from contracts import addresses
from contracts.logs import log_config

_log = logging.getLogger("bridge")

EXIT_SETTINGS: Final = 2
EXIT_PORT: Final = 1
EXIT_BROKER: Final = 1
KEEP_ALIVE_SECONDS: Final = 75
"""Above the 60 s that callers' connection pools keep theirs: a POST on a connection just closed here would be lost."""
STOP_MARGIN_SECONDS: Final = 2
BACKLOG: Final = 2048


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="payment-bridge", description="The payment service's HTTP bridge.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("run", help="serve until SIGTERM or SIGINT; settings come from the environment")
    parser.parse_args()
    sys.exit(run())


def run() -> int:
    """Serve; the exit status."""
    try:
        settings = load()
    except InvalidSettingsError as error:
        sys.stderr.write(f"The bridge cannot start:\n{error}\n")
        return EXIT_SETTINGS
    _configure_logs(settings)
    _allow_connections()
    if addresses.is_plain_text(settings.amqp_url.get_secret_value()):
        _log.warning("AMQP_URL: what leaves this machine by it can be read on its way (production refuses that)")
    try:
        listener = _listen(settings)
    except OSError as error:
        reason = (error.strerror or "not possible").partition(" (")[0]  # Python repeats the address there
        sys.stderr.write(f"The bridge cannot listen on {settings.bridge_host} port {settings.bridge_port}: {reason}.\n")
        return EXIT_PORT
    with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, listener))


async def _serve(settings: Settings, listener: socket.socket) -> int:
    lifecycle = Lifecycle()
    requester = Requester(
        amqp_url=settings.amqp_url.get_secret_value(),
        timeout_seconds=settings.bridge_timeout_seconds,
        max_in_flight=settings.bridge_max_in_flight,
        max_held=settings.bridge_max_held,
    )
    async with requester, _identity(settings) as identity:
        config = uvicorn.Config(
            create_app(
                requester,
                identity=identity,
                rates=_rates(settings),
                lifecycle=lifecycle,
                commit=settings.git_commit,
            ),
            http=BridgeProtocol,
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(settings.bridge_timeout_seconds) + STOP_MARGIN_SECONDS,
        )
        _log.info("Listening on http://%s:%d", settings.bridge_host, settings.bridge_port)
        server = Server(
            config,
            lifecycle,
            registration=_registration(settings, listener),
            drain_seconds=settings.drain_seconds,
            on_stop=requester.let_go,
        )
        watching = asyncio.create_task(_stop_without_broker(server, requester), name="broker-watch")
        await server.serve(sockets=[listener])
        watching.cancel()
    _log.info("Stopped.", extra={"calls": dataclasses.asdict(requester.counters)})
    if requester.distrust is not None:
        sys.stderr.write(f"The bridge cannot start:\nRabbitMQ (AMQP_URL) {requester.distrust}.\n")
        return EXIT_BROKER
    return 0


async def _stop_without_broker(server: uvicorn.Server, requester: Requester) -> None:
    await requester.given_up()
    server.should_exit = True


@contextlib.asynccontextmanager
async def _identity(settings: Settings) -> AsyncIterator[Identity]:
    if settings.bridge_auth != "jwt":
        yield PlatformHeaders()
        return
    async with KeyRing(source_at(settings.bridge_jwt_jwks)) as ring:
        yield ServiceTokens(ring, issuer=settings.bridge_jwt_issuer, audience=settings.bridge_jwt_audience)


def _rates(settings: Settings) -> RateLimits:
    per_second, per_minute = settings.bridge_caller_requests_per_second, settings.bridge_booking_creates_per_minute
    burst = settings.bridge_caller_burst or max(1, math.ceil(per_second))  # one second's worth
    return RateLimits(
        callers=RateLimit(per_second=per_second, burst=burst),
        bookings=RateLimit(per_second=per_minute / 60, burst=max(1, per_minute)),
    )


class Server(uvicorn.Server):
    """uvicorn's server, which on a signal also lets application and Eureka know, and ends with status 0.

    With `drain_seconds` the first signal refuses nothing: who has once been told of this bridge goes on calling it.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        lifecycle: Lifecycle,
        *,
        registration: Registration | None,
        drain_seconds: float,
        on_stop: Callable[[], None],
    ) -> None:
        """`on_stop` is called in the loop when what is new is refused and what has begun is to be finished."""
        super().__init__(config)
        self._lifecycle = lifecycle
        self._registration = registration
        self._drain_seconds = drain_seconds
        self._on_stop = on_stop
        self._drain_ends_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """First signal: drain, if so set. Next: refuse what is new, finish what has begun. Next: leave."""
        if self._drain_seconds and not self._lifecycle.draining:
            self._lifecycle.draining = True
            return
        self._stop()

    async def main_loop(self) -> None:
        """From listening to the end: in Eureka, if there is one, until told to leave."""
        async with self._registration or contextlib.nullcontext():
            await super().main_loop()

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second, in the loop and not in the middle of something as a signal is."""
        now = asyncio.get_running_loop().time()
        if self._lifecycle.draining and self._drain_ends_at is None:
            _log.info("Draining for %g s; another signal ends it.", self._drain_seconds)
            self._drain_ends_at = now + self._drain_seconds
            if self._registration is not None:
                self._registration.leave()
        if self._drain_ends_at is not None and now >= self._drain_ends_at and not self.should_exit:
            self._stop()
        if self.should_exit:
            self._on_stop()
        return await super().on_tick(counter)

    def _stop(self) -> None:
        self._lifecycle.stopping = True
        self.force_exit = self.should_exit
        self.should_exit = True


def _registration(settings: Settings, listener: socket.socket) -> Registration | None:
    if not settings.eureka_peers:
        return None
    return Registration(
        peers=settings.eureka_peers,
        app_name=settings.eureka_app_name.lower(),
        host=settings.instance_host,
        listens_at=listener.getsockname()[:2],
        version=importlib.metadata.version("bookticket-payment-service"),
    )


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.bridge_host else socket.AF_INET
    return socket.create_server((settings.bridge_host, settings.bridge_port), family=family, backlog=BACKLOG)


def _allow_connections() -> None:
    """As many as this process may ask for: every caller who waits has one, and the usual 1,024 are soon used up."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _configure_logs(settings: Settings) -> None:
    config = log_config(settings.log_level, settings.log_format)
    # aiormq logs every failed attempt with a traceback, and uvicorn warns of what is no HTTP: both are said here too,
    # in one line, the latter with the id that its caller was told.
    config["loggers"]["aiormq"] = {"level": "CRITICAL"}
    config["loggers"]["uvicorn.error"] = {"level": "ERROR"}
    logging.config.dictConfig(config)


if __name__ == "__main__":
    main()
