"""`payment-bridge run`: what the process needs before it serves, and after."""

import asyncio
import logging
import resource
import socket

import uvloop

from bridge import bootstrap
from bridge.settings import Settings
from runtime import connection_urls, garbage, misspelt, tracing
from runtime.command_start import CannotStartError
from runtime.http_server import cancel_on_signals, listening
from runtime.logs import configure, log_config

_log = logging.getLogger("bridge")


def run(settings: Settings) -> int:
    """Serve; the exit status."""
    _configure_logs(settings)
    tracing.start("payment-bridge")
    _raise_file_limit()
    if connection_urls.is_plain_text(settings.amqp_url.get_secret_value()):
        _log.warning("AMQP_URL: what leaves this machine by it can be read on its way (production refuses that)")
    for name, meant in misspelt.variables(Settings).items():
        _log.warning("%s is not a setting: is %s meant?", name, meant)
    listener = listening(settings.bridge_host, settings.bridge_port, settings="BRIDGE_HOST, BRIDGE_PORT")
    with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_serve(settings, listener))
        except asyncio.CancelledError:
            _log.info("Stopped before it served.")
            return 0
        finally:
            tracing.stop()


async def _serve(settings: Settings, listener: socket.socket) -> int:
    cancel_on_signals()
    async with bootstrap.bridge(settings, listener) as bridge:
        _log.info("Listening on http://%s:%d", settings.bridge_host, settings.bridge_port)
        garbage.keep()
        await bridge.server.serve(sockets=[listener])
    _log.info("Stopped.", extra={"calls": bridge.metrics.calls()})
    if bridge.rpc_client.distrust is not None:
        raise CannotStartError(f"RabbitMQ (AMQP_URL) {bridge.rpc_client.distrust}.")
    return 0


def _raise_file_limit() -> None:
    """To the hard limit: every caller who waits has a connection, and the usual 1,024 are soon used up."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _configure_logs(settings: Settings) -> None:
    config = log_config(settings.log_level, settings.log_format)
    # aiormq logs every failed attempt with a traceback, and uvicorn warns of invalid HTTP. The bridge logs both itself,
    # in one line, the latter with the request id of the answer.
    config["loggers"]["aiormq"] = {"level": "CRITICAL"}
    config["loggers"]["uvicorn.error"] = {"level": "ERROR"}
    configure(config)
