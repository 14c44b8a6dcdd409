"""The lines at which a service is killed, and what has to be true then."""

from dataclasses import dataclass
from typing import Any

import pytest

from service.failpoints import FailPoint
from tests.integration.service.crash.evidence import Calls

ONCE, REPEATED, ASKED_AGAIN = Calls(calls=1), Calls(calls=2, replays=1), Calls(calls=2)


@dataclass(frozen=True, kw_only=True)
class Crash:
    """The line, what is true while the service is dead, and what the command has cost at the end."""

    row: str
    point: FailPoint
    has_row: bool = True
    stored: bool = False
    asked: int = 1
    """Calls to Stripe before the death."""
    calls: Calls
    replies: int = 1


def named(*crashes: Crash) -> Any:
    """A test for each."""
    return pytest.mark.parametrize("crash", [pytest.param(each, id=f"{each.row}-{each.point}") for each in crashes])
