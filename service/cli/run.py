"""`payment-service run`: consumes commands and publishes events until SIGTERM."""

import argparse
import asyncio
import logging
import socket
from types import FrameType

import uvicorn

from runtime import garbage, misspelt, tracing
from runtime.http_protocol import KEEP_ALIVE_SECONDS
from runtime.http_server import BaseServer, cancel_on_signals
from runtime.logs import configure, log_config
from service import bootstrap, failpoints
from service.entrypoints import docs_page
from service.entrypoints.operator_pages import OperatorPages, OperatorProtocol
from service.settings import MigrateSettings, Settings
from service.startup import StartError


class _Server(BaseServer):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """A signal: what is begun has its time, however often it is told."""
        self.should_exit = True


def needs(_: argparse.Namespace) -> type[Settings]:
    """Its settings."""
    return Settings


async def run(_: argparse.Namespace, settings: Settings) -> int:
    """Serve until a signal, or until a background task fails; the exit status."""
    _configure_logs(settings)
    log = logging.getLogger("service")
    if settings.failpoint is not None:
        log.warning("fail point %s is armed: a test will kill this process there", settings.failpoint)
        failpoints.arm(settings.failpoint)
    if settings.in_plain_text:
        names = " and ".join(settings.in_plain_text)
        log.warning("%s: what leaves this machine by it can be read on its way (production refuses that)", names)
    for name, meant in misspelt.variables(Settings, MigrateSettings).items():
        log.warning("%s is not a setting: is %s meant?", name, meant)
    tracing.start("payment-service")
    cancel_on_signals()
    try:
        with _bound(settings) as listener:
            return await _serve(settings, listener, log)
    except asyncio.CancelledError:
        log.info("stopped before it served")
        return 0
    finally:
        tracing.stop()


def _bound(settings: Settings) -> socket.socket:
    """The socket that will be served. It does not listen yet: who connects before it serves is refused."""
    family = socket.AF_INET6 if ":" in settings.service_host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.service_host, settings.service_port))
    except OSError as error:
        listener.close()
        raise StartError(_refused(settings, error)) from None
    return listener


def _refused(settings: Settings, error: OSError) -> str:
    where = f"{settings.service_host} port {settings.service_port} (SERVICE_HOST, SERVICE_PORT)"
    return f"It cannot listen on {where}: {error.strerror or 'not possible'}."


async def _serve(settings: Settings, listener: socket.socket, log: logging.Logger) -> int:
    async with bootstrap.built(settings) as service:
        config = uvicorn.Config(
            OperatorPages(service.asgi, documents=docs_page.DOCUMENTS),
            http=OperatorProtocol,
            ws="none",
            host=settings.service_host,
            port=settings.service_port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="on",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=2,
        )
        server = _Server(config)
        watching = asyncio.create_task(_stop_when_failed(service, server), name="failure-watch")
        garbage.keep()
        log.info("starting", extra={"host": settings.service_host, "port": settings.service_port})
        try:
            await server.serve(sockets=[listener])
        except OSError as error:  # somebody listens there by now
            raise StartError(_refused(settings, error)) from None
        finally:
            watching.cancel()
        log.info("stopped taking commands")
        return 0 if server.started and not service.failed.is_set() else 1


def _configure_logs(settings: Settings) -> None:
    config = log_config(settings.log_level, settings.log_format)
    # aio-pika logs a lost connection as a warning; these two loggers repeat it as errors.
    for name in ("aiormq", "aio_pika.tools"):
        config["loggers"][name] = {"level": "CRITICAL"}
    configure(config)


async def _stop_when_failed(service: bootstrap.Service, server: uvicorn.Server) -> None:
    await service.failed.wait()
    server.should_exit = True
