"""`payment-service run | migrate | show | dead-letters`."""

import argparse
import asyncio
import contextlib
import logging.config
import signal
import sys
from collections.abc import Coroutine, Generator
from typing import Any

import uvicorn
import uvloop

from contracts import addresses
from contracts.logs import log_config
from service import bootstrap, dead_letters, failpoints, show
from service.adapters.store import NoSuchRoleError, migrate, newest_revision
from service.domain.errors import StoreUnavailableError
from service.reach import StartError
from service.settings import DatabaseSettings, MigrateSettings, Settings, SettingsError, load


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: they end the process by the signal once more, before anything is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def main() -> None:
    """The `payment-service` command."""
    arguments = _parser().parse_args()
    try:
        status = uvloop.run(_command(arguments))
    except (SettingsError, StartError) as error:
        sys.exit(f"payment-service cannot start:\n{error}")
    except NoSuchRoleError as error:
        sys.exit(f"payment-service: {error}")
    except StoreUnavailableError as error:
        sys.exit(f"payment-service: the database (DATABASE_URL) {addresses.distrust(error) or 'cannot be reached'}.")
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="payment-service", description="BookTicket's payment service.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="consume commands and publish events until SIGTERM")
    commands.add_parser("migrate", help="bring the database to the tables that this version needs")
    shown = commands.add_parser("show", help="print payments with their journal, for a person")
    shown.add_argument("id", help="a payment id, a transaction id (cs_...) or booking:<id>")
    dead_letters.add_parser(commands)
    return parser


def _command(arguments: argparse.Namespace) -> Coroutine[Any, Any, int]:
    match arguments.command:
        case "run":
            return _run(load(Settings))
        case "migrate":
            return _migrate(load(MigrateSettings))
        case "dead-letters":
            return dead_letters.run(arguments, load(dead_letters.needs(arguments)))
        case _:
            return show.show(arguments.id, load(DatabaseSettings))


def _configure_logs(settings: Settings) -> None:
    config = log_config(settings.log_level, settings.log_format)
    # That a connection to RabbitMQ was lost is one warning of aio-pika's; these two say it again, as errors.
    for name in ("aiormq", "aio_pika.tools"):
        config["loggers"][name] = {"level": "CRITICAL"}
    logging.config.dictConfig(config)


async def _run(settings: Settings) -> int:
    _configure_logs(settings)
    log = logging.getLogger("service")
    if settings.failpoint is not None:
        log.warning("a test will have this process killed at %s", settings.failpoint)
        failpoints.arm(failpoints.read(settings.failpoint))
    if settings.in_plain_text:
        names = " and ".join(settings.in_plain_text)
        log.warning("%s: what leaves this machine by it can be read on its way (production refuses that)", names)
    async with bootstrap.built(settings) as service:
        config = uvicorn.Config(
            service.asgi,
            host=settings.service_host,
            port=settings.service_port,
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=2,
        )
        server = _Server(config)
        watching = asyncio.create_task(_stop_when_failed(service, server), name="failure-watch")
        log.info("starting", extra={"host": settings.service_host, "port": settings.service_port})
        try:
            await server.serve()
        except SystemExit:  # uvicorn's way to say that the port is taken
            return 1
        finally:
            watching.cancel()
        log.info("stopped taking commands")
        return 0 if server.started and not service.failed.is_set() else 1


async def _stop_when_failed(service: bootstrap.Service, server: uvicorn.Server) -> None:
    await service.failed.wait()
    server.should_exit = True


async def _migrate(settings: MigrateSettings) -> int:
    url = settings.migration_database_url or settings.database_url
    granted = await migrate(url.get_secret_value(), application=settings.application)
    sys.stdout.write(f"The database is at revision {newest_revision()}.\n")
    if granted:
        sys.stdout.write(f"The role {settings.application} may do what the service needs, and no more.\n")
    return 0


if __name__ == "__main__":
    main()
