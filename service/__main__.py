"""The command `payment-service`: parses the command line, and imports and runs the one that is asked for."""

import importlib
import sys

from runtime import command_start, garbage
from service.cli.parser import parser


def main() -> None:
    """The `payment-service` command."""
    command_start.end_on_sigterm()
    garbage.collect_seldom()
    arguments = parser().parse_args()
    with command_start.needing("service", command="payment-service"):
        # Each imports what it needs: a second or two, which `--help` and wrong usage do without.
        command = importlib.import_module(f"service.cli.{arguments.command.replace('-', '_')}")
        ending = importlib.import_module("service.cli.ending")
    sys.exit(ending.status_of(command, arguments))


if __name__ == "__main__":
    main()
