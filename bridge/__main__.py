"""The command `payment-bridge`: its arguments, and the exit status. The rest is imported when it is needed."""

import argparse
import sys

from runtime import command_start, garbage


def main() -> None:
    """The `payment-bridge` command."""
    command_start.end_on_signals()
    garbage.collect_seldom()
    arguments = parser().parse_args()
    with command_start.needing("bridge", command="payment-bridge"):
        # `--help` and wrong usage need nothing of it.
        from bridge import check, serve  # noqa: PLC0415
        from bridge.settings import Settings  # noqa: PLC0415
        from runtime.process_settings import load  # noqa: PLC0415

    def run() -> int:
        try:
            chosen = load(Settings)
            return check.check(chosen, arguments) if arguments.command == "check" else serve.run(chosen)
        except command_start.CannotStartError as error:
            sys.stderr.write(f"The bridge cannot start:\n{error}\n")
            return error.status

    command_start.run_to_end(run)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="payment-bridge", description="The payment service's HTTP bridge.")
    command_start.add_version(found)
    commands = found.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("run", help="serve until SIGTERM or SIGINT; settings come from the environment")
    checked = commands.add_parser("check", help="whether the bridge could work here: settings, RabbitMQ")
    checked.add_argument("--json", action="store_true", help="print one JSON object")
    return found


if __name__ == "__main__":
    main()
