"""Circuit breakers: what fails again and again, or refuses our key, is not called but for one probe now and then.

The pattern is M. Nygard's ("Release It!", Circuit Breaker): closed, then open, then half open for one probe.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from service.ratelimit.permit import Endpoint

FAILURES: Final = 5
"""In a row, and of as many different payments: one that always fails says nothing of the others."""
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 15.0
PROBE_SECONDS: Final = 1.0
"""What callers are told to wait while the probe is under way."""


class State(IntEnum):
    """Of a breaker; the values are those of the metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Verdict(Enum):
    """What an attempt says of the other side."""

    ANSWERS = "answers"
    """It works, whatever it answered."""
    FAILS = "fails"
    """It did not answer, or with an error of its own."""
    DENIES = "denies"
    """It refuses our key at this endpoint: an operator must act."""
    DENIES_ALL = "denies all"
    """It refuses our key wherever it is shown."""
    NOTHING = "nothing"


class CircuitChange(Enum):
    """What a verdict has changed, for the log."""

    OPENED = "opened"
    DENIED = "denied"
    CLOSED = "closed"


class CircuitOpenError(Exception):
    """Nothing is called for now; `wait_seconds` is until the next probe, counted from now."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__()
        self.wait_seconds = wait_seconds


class CircuitBreaker:
    """One circuit. `enter` before each attempt and `leave` after it, however it ended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` counts seconds, of any beginning."""
        self.state = State.CLOSED
        self._clock = clock
        self._failed: set[object] = set()
        self._denied = False
        self._pause = FIRST_PAUSE_SECONDS
        self._probe_at = -math.inf
        self._generation = 0

    def check(self) -> None:
        """Raises CircuitOpenError unless an attempt may begin."""
        if self.state is State.HALF_OPEN:
            raise CircuitOpenError(PROBE_SECONDS)
        if self.state is State.OPEN and (wait := self._probe_at - self._clock()) > 0:
            raise CircuitOpenError(wait)

    def enter(self) -> int:
        """Begin an attempt if `check` lets it, the probe if the circuit is open; what to `leave` with."""
        self.check()
        if self.state is State.OPEN:
            self._become(State.HALF_OPEN)
        return self._generation

    def leave(self, generation: int, verdict: Verdict, *, subject: object = None) -> CircuitChange | None:
        """The attempt is over. `subject`: whose it was; None: nobody's who could be the cause."""
        if generation != self._generation:
            return None  # it began before the circuit changed, so that it says nothing of now
        match verdict:
            case Verdict.ANSWERS:
                return self._answered()
            case Verdict.FAILS:
                return self._has_failed(object() if subject is None else subject)
            case Verdict.DENIES | Verdict.DENIES_ALL:
                return self._was_denied()
            case Verdict.NOTHING:
                if self.state is State.HALF_OPEN:
                    self._become(State.OPEN)  # whoever comes next is the probe
                return None

    def _answered(self) -> CircuitChange | None:
        self._failed.clear()
        if self.state is State.CLOSED:
            return None
        self._denied = False
        self._become(State.CLOSED)
        return CircuitChange.CLOSED

    def _has_failed(self, subject: object) -> CircuitChange | None:
        is_news = subject not in self._failed
        if self.state is State.CLOSED:
            self._failed.add(subject)
            if len(self._failed) < FAILURES:
                return None
            self._open(FIRST_PAUSE_SECONDS)
            return CircuitChange.OPENED
        # One that had failed before proves nothing new, and must not keep the others waiting for longer.
        if is_news and self._pause < LONGEST_PAUSE_SECONDS:
            self._failed.add(subject)
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        self._open(self._pause)
        return None

    def _was_denied(self) -> CircuitChange | None:
        was_denied, self._denied = self._denied, True
        self._open(LONGEST_PAUSE_SECONDS)
        return None if was_denied else CircuitChange.DENIED

    def _open(self, pause: float) -> None:
        self._pause = pause
        self._probe_at = self._clock() + pause
        self._become(State.OPEN)

    def _become(self, state: State) -> None:
        self.state = state
        self._generation += 1


_OF_KEY: Final = {
    Verdict.FAILS: Verdict.NOTHING,  # perhaps nobody looked at the key
    Verdict.DENIES: Verdict.ANSWERS,
}


@dataclass(frozen=True, kw_only=True)
class CircuitEntry:
    """For one attempt: what it entered."""

    endpoint: Endpoint
    of_endpoint: int
    of_key: int


class CircuitBreakers:
    """A breaker for each endpoint, and one for all of them: a revoked key need not be tried at each."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._endpoints = {endpoint: CircuitBreaker(clock) for endpoint in Endpoint}
        self._key = CircuitBreaker(clock)

    def state(self, endpoint: Endpoint) -> State:
        """As its callers find it."""
        return max(self._endpoints[endpoint].state, self._key.state)

    def check(self, endpoint: Endpoint) -> None:
        """Raises CircuitOpenError unless an attempt may begin."""
        self._key.check()
        self._endpoints[endpoint].check()

    def enter(self, endpoint: Endpoint) -> CircuitEntry:
        """Begin an attempt if `check` lets it; `leave` must follow."""
        self.check(endpoint)
        return CircuitEntry(endpoint=endpoint, of_endpoint=self._endpoints[endpoint].enter(), of_key=self._key.enter())

    def leave(self, entry: CircuitEntry, verdict: Verdict, *, subject: object = None) -> CircuitChange | None:
        """The attempt is over; see `CircuitBreaker.leave`."""
        of_key = _OF_KEY.get(verdict, verdict)
        of_endpoint = Verdict.NOTHING if verdict is Verdict.DENIES_ALL else verdict
        change = self._endpoints[entry.endpoint].leave(entry.of_endpoint, of_endpoint, subject=subject)
        return self._key.leave(entry.of_key, of_key) or change
