"""What the commands do before they import the rest of the program, which takes a second or two; and how they end."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Generator
from typing import Any, Final, NoReturn

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
"""Wrong usage, wrong settings, or packages that are not installed."""
EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
EXIT_TERMINATED: Final = 128 + signal.SIGTERM
_OURS: Final = {"contracts", "runtime", "service", "bridge", "console"}


class CannotStartError(Exception):
    """A command cannot begin; the text has a sentence a line, for an operator, and `status` is the exit status."""

    status = EXIT_FAILED


def end_on_signals() -> None:
    """End on SIGTERM and SIGINT from the first moment, when nothing has begun that would have to be finished.

    The first process of a container ignores the one by default, and Python tells the other by a traceback.
    """
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(EXIT_TERMINATED))
    signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(EXIT_INTERRUPTED))


def run_to_end(command: Callable[[], int]) -> NoReturn:
    """Run what SIGINT interrupts, and end with its exit status; signals that come then change nothing."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = command()
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(status)


class ShowVersion(argparse.Action):
    """`--version`: the version of the installed package, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print it, and end."""
        import importlib.metadata  # noqa: PLC0415 - it takes longer than all else here

        sys.stdout.write(f"{parser.prog} {importlib.metadata.version('bookticket-payment-service')}\n")
        parser.exit()


def add_version(parser: argparse.ArgumentParser) -> None:
    """Give a command its `--version`."""
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="print the version and end")


@contextlib.contextmanager
def needing(extra: str, *, command: str) -> Generator[None]:
    """Around the imports of a command: end it with one sentence if the packages of its extra are missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _OURS:
            raise
        sys.stderr.write(
            f"{command} needs the extra '{extra}', which is not installed here:"
            f" pip install 'bookticket-payment-service[{extra}]'\n"
        )
        sys.exit(EXIT_USAGE)
