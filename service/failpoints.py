"""Fail points: the places in the way of a command where a test may have the process killed, as if by `kill -9`.

They stand in the code that is deployed, so that what is proven there is true of it. Only the setting FAILPOINT arms
one, which is refused wherever real money could move; until then reaching one is a comparison with None.
"""

import os
import re
import signal
from dataclasses import dataclass
from enum import StrEnum


class FailPoint(StrEnum):
    """Where. Creates and verifies pass the same places; the docstrings say what is true at that moment."""

    ROW_NOT_COMMITTED = "row-not-committed"
    """A create is understood; its payment is not in the database."""
    GATEWAY_NOT_CALLED = "gateway-not-called"
    """All that was to be stored before a call to the gateway is; the call is not made."""
    ANSWER_LOST = "answer-lost"
    """The gateway has done what it was asked for; its answer is on the line and nobody has read it."""
    OUTCOME_NOT_STORED = "outcome-not-stored"
    """The gateway's answer is read and understood; nothing of it is in the database."""
    NOT_REPLIED = "not-replied"
    """All is stored; nobody was told."""
    NOT_ACKED = "not-acked"
    """The reply is out; the broker still holds the command."""
    EVENT_NOT_PUBLISHED = "event-not-published"
    """A relay has claimed an event; the broker has not seen it."""
    EVENT_NOT_CONFIRMED = "event-not-confirmed"
    """The broker has an event; of those published along with it nobody knows."""
    EVENT_NOT_MARKED = "event-not-marked"
    """The broker has confirmed a batch of events; the outbox still holds them as unsent."""


@dataclass(frozen=True, kw_only=True)
class Arming:
    """The `n`-th time that `point` is reached is the last; `n` from 1."""

    point: FailPoint
    n: int


class _Trigger:
    point: FailPoint | None = None
    left = 0


def hit(point: FailPoint) -> None:
    """The process has come here. Nothing happens unless it was armed for this point and this time."""
    if point is _Trigger.point:
        _Trigger.left -= 1
        if _Trigger.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def arm(arming: Arming) -> None:
    """From now on."""
    _Trigger.point, _Trigger.left = arming.point, arming.n


def read(text: str) -> Arming:
    """`<name>:<n>`.

    Raises:
        ValueError: no such point, or n is no whole number from 1.
    """
    name, _, n = text.partition(":")
    if not re.fullmatch("[1-9][0-9]{0,8}", n):
        raise ValueError(f"{n} is no number of times")
    return Arming(point=FailPoint(name), n=int(n))
