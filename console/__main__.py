"""The command `payment-console`: its arguments, and the exit status. The rest is imported when it is needed."""

import argparse
import sys
from typing import Final

from runtime import command_start, garbage

ROLES: Final = ("viewer", "operator")
"""Those of `console.identity`, which would have to be imported; a test compares the two."""


def main() -> None:
    """The `payment-console` command."""
    command_start.end_on_signals()
    garbage.collect_seldom()
    arguments = parser().parse_args()
    with command_start.needing("console", command="payment-console"):
        # `--help` and wrong usage need nothing of it.
        from console import check, process  # noqa: PLC0415
        from console.settings import Settings  # noqa: PLC0415
        from runtime.process_settings import load  # noqa: PLC0415

    def run() -> int:
        if arguments.command == "user":
            return _user(arguments.name, arguments.role)
        try:
            chosen = load(Settings)
            return check.check(chosen, arguments) if arguments.command == "check" else process.run(chosen)
        except command_start.CannotStartError as error:
            sys.stderr.write(f"The console cannot start:\n{error}\n")
            return error.status

    command_start.run_to_end(run)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="payment-console", description="The payment service's console for operators.")
    command_start.add_version(found)
    commands = found.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("run", help="serve until SIGTERM or SIGINT; settings come from the environment")
    checked = commands.add_parser("check", help="whether the console could work here: settings, database, RabbitMQ")
    checked.add_argument("--json", action="store_true", help="print one JSON object")
    user = commands.add_parser("user", help="read a password from standard input, print a line for CONSOLE_USERS")
    user.add_argument("name")
    user.add_argument("role", choices=ROLES)
    return found


def _user(name: str, role: str) -> int:
    from console.identity import Role  # noqa: PLC0415
    from console.users import user_line  # noqa: PLC0415

    try:
        line = user_line(name, Role(role), sys.stdin.readline().rstrip("\r\n"))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return command_start.EXIT_USAGE
    sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    main()
