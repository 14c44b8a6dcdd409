"""How it is learnt how a payment stands when somebody asks: which way to go is decided here, and nothing else.

Stripe allows so few calls that thousands who ask every two seconds cannot each have one. Most of them need none: what
the feed reads for one it reads for all.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

ASKED_AGAIN_AFTER: Final = timedelta(seconds=10)
"""A session that the feed covers is asked about once more after so long: Stripe does not promise when events show."""
ASKED_AGAIN_EVERY: Final = timedelta(seconds=1)
"""And of all those sessions only one in so long: their number must not matter."""
TURN_SECONDS: Final = 1.0
"""How long somebody who asks stands in line for a turn; beyond that the last known status is the better answer."""
READING_SECONDS: Final = 2.0
"""How long somebody who asks waits for the feed's next reading."""
ANSWERED_WITHIN: Final = timedelta(seconds=0.6)
"""What the gateway usually takes: so long after another replica asked, its answer may still come."""


class Way(Enum):
    """How to answer somebody who asks about a pending payment."""

    KNOWN = "known"
    """It was asked about within the freshness window: as it was then."""
    WATCH = "watch"
    """The same, but the feed is reading all the time: its next reading is worth the wait."""
    RIDE = "ride"
    """Have the feed read, and wait for that."""
    ASK = "ask"
    """Ask the gateway about this session."""
    BUSY = "busy"
    """The gateway cannot be asked in time: as it was last known, and say so."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What the way depends on.

    `asked_at`: when the gateway was last asked about the session itself, on whatever replica. `known`: asked about
    within the freshness window, here, in whatever way. `always_ask`: there is no such window. `turn_seconds`: when a
    turn would come.
    """

    asked_at: datetime | None
    at: datetime
    known: bool
    always_ask: bool
    feed_is_current: bool
    feed_is_busy: bool
    turn_is_free: bool
    turn_seconds: float
    may_ask_again: bool


def way(situation: Situation) -> Way:
    """The way to go: pure, and the only place that decides it."""
    s = situation
    if s.known:
        return Way.WATCH if s.feed_is_busy else Way.KNOWN
    if not s.feed_is_current:
        return Way.ASK if s.turn_seconds <= TURN_SECONDS else Way.BUSY
    if not s.turn_is_free:
        return Way.RIDE
    if s.always_ask or s.asked_at is None:
        return Way.ASK
    overdue = s.at - s.asked_at >= ASKED_AGAIN_AFTER
    return Way.ASK if overdue and s.may_ask_again else Way.RIDE


class Recent:
    """Which payments were asked about within the freshness window in this process, and whether that succeeded."""

    def __init__(self) -> None:
        self._asked: OrderedDict[int, tuple[datetime, bool]] = OrderedDict()
        self._again_at: datetime | None = None

    def __len__(self) -> int:
        return len(self._asked)

    def note(self, payment_id: int, *, at: datetime, answered: bool) -> None:
        """It was asked about at that moment."""
        self._asked[payment_id] = (at, answered)
        self._asked.move_to_end(payment_id)

    def answered(self, payment_id: int, *, since: datetime) -> bool | None:
        """Whether asking about it succeeded; None if nobody has since then. Forgets whatever is older."""
        while self._asked and next(iter(self._asked.values()))[0] <= since:
            self._asked.popitem(last=False)
        at, answered = self._asked.get(payment_id, (since, None))
        return answered if at > since else None

    def may_ask_again(self, at: datetime) -> bool:
        """Whether one of the sessions that the feed covers may be asked about once more."""
        return self._again_at is None or at - self._again_at >= ASKED_AGAIN_EVERY

    def note_again(self, at: datetime) -> None:
        """One was."""
        self._again_at = at
