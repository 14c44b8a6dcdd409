"""What the commands do before they import the rest of the program, which takes a second or two."""

import argparse
import contextlib
import importlib.metadata
import signal
import sys
from collections.abc import Generator
from typing import Any, Final

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
"""Wrong usage, wrong settings, or packages that are not installed."""
EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
EXIT_TERMINATED: Final = 128 + signal.SIGTERM
_OURS: Final = {"contracts", "runtime", "service", "bridge", "console"}


class CannotStartError(Exception):
    """A command cannot begin; the text has a sentence a line, for an operator, and `status` is the exit status."""

    status = EXIT_FAILED


def end_on_sigterm() -> None:
    """End on SIGTERM from the first moment: the first process of a container ignores it by default."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(EXIT_TERMINATED))


class ShowVersion(argparse.Action):
    """`--version`: the version of the installed package, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print it, and end."""
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
