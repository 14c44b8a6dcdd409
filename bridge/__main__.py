"""The command `payment-bridge`: reads the settings, builds everything, serves until it is told to stop."""

import argparse
import asyncio
import dataclasses
import logging
import logging.config
import socket
import sys
from types import FrameType
from typing import Final

import uvicorn
import uvloop

from bridge.app import Lifecycle, create_app
from bridge.http import BridgeProtocol
from bridge.requester import Requester
from bridge.settings import InvalidSettingsError, Settings, load
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
    )
    async with requester:
        config = uvicorn.Config(
            create_app(requester, lifecycle=lifecycle),
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
        server = Server(config, lifecycle)
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


class Server(uvicorn.Server):
    """uvicorn's server, which on a signal also lets the application know, and ends with status 0."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """First signal: refuse what is new, finish what has begun. Second: leave."""
        self._lifecycle.stopping = True
        self.force_exit = self.should_exit
        self.should_exit = True


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.bridge_host else socket.AF_INET
    return socket.create_server((settings.bridge_host, settings.bridge_port), family=family, backlog=BACKLOG)


def _configure_logs(settings: Settings) -> None:
    config = log_config(settings.log_level, settings.log_format)
    # aiormq logs every failed attempt with a traceback; the requester says the same in one line.
    config["loggers"]["aiormq"] = {"level": "CRITICAL"}
    logging.config.dictConfig(config)


if __name__ == "__main__":
    main()
