"""The command `payment-service`: parses the command line, then imports and runs the command that it names."""

import importlib

from runtime import command_start, garbage
from service.cli.parser import parser


def main() -> None:
    """The `payment-service` command."""
    command_start.end_on_signals()
    garbage.collect_seldom()
    arguments = parser().parse_args()
    with command_start.needing("service", command="payment-service"):
        # Each command imports what it needs, which takes a second or two: `--help` and wrong usage do not wait for it.
        command = importlib.import_module(f"service.cli.{arguments.command.replace('-', '_')}")
        ending = importlib.import_module("service.cli.ending")
    command_start.run_to_end(lambda: ending.status_of(command, arguments))


if __name__ == "__main__":
    main()
