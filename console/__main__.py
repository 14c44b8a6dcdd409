"""The command `payment-console`: its arguments, its exit status, and what the process needs before it serves."""

import argparse
import asyncio
import logging
import logging.config
import socket
import sys
from importlib import metadata

import uvloop

from console import bootstrap
from console.check import check
from console.identity import Role
from console.settings import Settings
from console.users import user_line
from runtime import connection_urls, misspelt
from runtime.command_start import EXIT_USAGE, CannotStartError
from runtime.http_server import listening
from runtime.logs import log_config
from runtime.process_settings import load

_log = logging.getLogger("console")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="payment-console", description="The payment service's console for operators.")
    version = metadata.version("bookticket-payment-service")
    parser.add_argument("--version", action="version", version=f"payment-console {version}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("run", help="serve until SIGTERM or SIGINT; settings come from the environment")
    checked = commands.add_parser("check", help="whether the console could work here: settings, database, RabbitMQ")
    checked.add_argument("--json", action="store_true", help="say it as one JSON object")
    user = commands.add_parser("user", help="read a password from standard input, print a line for CONSOLE_USERS")
    user.add_argument("name")
    user.add_argument("role", type=Role, choices=list(Role))
    arguments = parser.parse_args()
    if arguments.command == "user":
        sys.exit(_user(arguments.name, arguments.role))
    try:
        settings = load(Settings)
        status = check(settings, arguments) if arguments.command == "check" else run(settings)
    except CannotStartError as error:
        sys.stderr.write(f"The console cannot start:\n{error}\n")
        status = error.status
    sys.exit(status)


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
        return runner.run(_serve(settings, listener))


async def _serve(settings: Settings, listener: socket.socket) -> int:
    async with bootstrap.console(settings) as server:
        _log.info("Listening on http://%s:%d", settings.console_host, settings.console_port)
        await server.serve(sockets=[listener])
    _log.info("Stopped.")
    return 0


def _user(name: str, role: Role) -> int:
    try:
        line = user_line(name, role, sys.stdin.readline().rstrip("\r\n"))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    sys.stdout.write(f"{line}\n")
    return 0


def _configure_logs(settings: Settings) -> None:
    config = log_config(settings.log_level, settings.log_format)
    for library in ("aiormq", "aio_pika"):  # they tell every failure with a traceback; the pages tell it in a sentence
        config["loggers"][library] = {"level": "CRITICAL"}
    config["loggers"]["uvicorn.error"] = {"level": "ERROR"}
    logging.config.dictConfig(config)


if __name__ == "__main__":
    main()
