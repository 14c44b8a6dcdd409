"""How a command ends: its exit status, and a sentence instead of a traceback for what an operator can mend."""

import argparse
import os
import sys
from collections.abc import Coroutine
from typing import Any, Protocol

import uvloop
from pydantic_settings import BaseSettings

from runtime import command_start, process_settings
from service.adapters.postgres import (
    MigrationForbiddenError,
    NoSuchRoleError,
    TablesInUseError,
    UnknownRevisionError,
    why,
)
from service.domain.errors import StoreUnavailableError


class Command(Protocol):
    """A module of a command."""

    @staticmethod
    def needs(arguments: argparse.Namespace) -> type[BaseSettings]:
        """The settings that it takes."""

    @staticmethod
    def run(arguments: argparse.Namespace, settings: Any) -> Coroutine[Any, Any, int]:
        """Do it; the exit status."""


def status_of(command: Command, arguments: argparse.Namespace) -> int:
    """Run the command: 0 it is done, 1 it failed or found what it looks for, 2 wrong usage or settings."""
    try:
        return uvloop.run(command.run(arguments, process_settings.load(command.needs(arguments))))
    except command_start.CannotStartError as error:
        sys.stderr.write(f"payment-service cannot start:\n{error}\n")
        return error.status
    except (MigrationForbiddenError, NoSuchRoleError, TablesInUseError, UnknownRevisionError) as error:
        sys.stderr.write(f"payment-service: {error}\n")
    except StoreUnavailableError as error:
        sys.stderr.write(f"payment-service: the database (DATABASE_URL) {why(error)}.\n")
    except BrokenPipeError:  # `... | head`: nobody reads the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.stderr.write("payment-service: interrupted; repeating the command is safe.\n")
        return command_start.EXIT_INTERRUPTED
    return command_start.EXIT_FAILED
