"""Fail points: places in the path of a command where a test may have the process killed, as if by `kill -9`.

They are part of the deployed code, so that the tests prove something about it. Only the setting FAILPOINT arms one,
which is refused wherever real money could move; unarmed, a fail point costs one comparison.
"""

import os
import re
import signal
from enum import StrEnum


class FailPoint(StrEnum):
    """The places, which creates and verifies share; each docstring says what is true at that moment."""

    ROW_NOT_COMMITTED = "row-not-committed"
    """A create is validated; its payment is not in the database."""
    GATEWAY_NOT_CALLED = "gateway-not-called"
    """Everything that has to be stored before a call to the gateway is stored; the call is not made."""
    ANSWER_LOST = "answer-lost"
    """The gateway has done what was asked; its answer has not been received."""
    OUTCOME_NOT_STORED = "outcome-not-stored"
    """The gateway's answer is received; nothing of it is in the database."""
    NOT_REPLIED = "not-replied"
    """Everything is stored; no reply is sent."""
    NOT_ACKED = "not-acked"
    """The reply is sent; the command is not acknowledged."""
    EVENT_NOT_PUBLISHED = "event-not-published"
    """A relay has claimed an event; it is not published."""
    EVENT_NOT_CONFIRMED = "event-not-confirmed"
    """An event of a batch is published; the state of the others is not known."""
    EVENT_NOT_MARKED = "event-not-marked"
    """The broker has confirmed a batch of events; the outbox does not know it."""


class _Trigger:
    point: FailPoint | None = None
    left = 0


def hit(point: FailPoint) -> None:
    """Mark a place. Nothing happens unless the point is armed and this is its time."""
    if point is _Trigger.point:
        _Trigger.left -= 1
        if _Trigger.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def arm(text: str) -> None:
    """Arm the point in `<name>:<n>` for the rest of the process's life: its n-th hit, from 1, kills the process."""
    _Trigger.point, _Trigger.left = parse(text)


def parse(text: str) -> tuple[FailPoint, int]:
    """The name and n of `<name>:<n>`; ValueError unless there is such a point and n is a whole number from 1."""
    name, _, n = text.partition(":")
    if not re.fullmatch("[1-9][0-9]{0,8}", n):
        raise ValueError(f"{n} is no number of times")
    return FailPoint(name), int(n)
