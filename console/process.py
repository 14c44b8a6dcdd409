"""`payment-console run`: what the process needs before it serves."""

import asyncio
import logging
import socket

import uvloop

from console import bootstrap
from console.settings import Settings
from runtime import connection_urls, garbage, misspelt
from runtime.http_server import cancel_on_signals, listening
from runtime.logs import configure, log_config

_log = logging.getLogger("console")


def run(settings: Settings) -> int:
    """Serve; the exit status."""
    _configure_logs(settings)
    for name, url in (("AMQP_URL", settings.amqp_url), ("DATABASE_URL", settings.database_url)):
        if connection_urls.is_plain_text(url.get_secret_value()):
            _log.warning("%s: what leaves this machine by it can be read on its way (production refuses that)", name)
    for name, meant in misspelt.variables(Settings).items():
        _log.warning("%s is not a setting: is %s meant?", name, meant)
    listener = listening(settings.console_host, settings.console_port, settings="CONSOLE_HOST, CONSOLE_PORT")
    with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_serve(settings, listener))
        except asyncio.CancelledError:
            _log.info("Stopped before it served.")
            return 0


async def _serve(settings: Settings, listener: socket.socket) -> int:
    cancel_on_signals()
    async with bootstrap.console(settings) as server:
        _log.info("Listening on http://%s:%d", settings.console_host, settings.console_port)
        garbage.keep()
        await server.serve(sockets=[listener])
    _log.info("Stopped.")
    return 0


def _configure_logs(settings: Settings) -> None:
    config = log_config(settings.log_level, settings.log_format)
    for library in ("aiormq", "aio_pika"):  # these log every failure with a traceback; the pages tell it in a sentence
        config["loggers"][library] = {"level": "CRITICAL"}
    config["loggers"]["uvicorn.error"] = {"level": "ERROR"}
    configure(config)
