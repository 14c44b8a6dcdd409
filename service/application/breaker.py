"""Circuit breakers: what fails again and again, or refuses our key, is left alone but for one try now and then.

The pattern is M. Nygard's ("Release It!", Circuit Breaker): closed, then open, then half open for one probe.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from service.application.budget import Endpoint

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


class Change(Enum):
    """What a verdict has changed, for the log."""

    OPENED = "opened"
    DENIED = "denied"
    CLOSED = "closed"


class CircuitOpenError(Exception):
    """Nothing is called for now; `wait_seconds` is until the next probe, counted from now."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__()
        self.wait_seconds = wait_seconds


class Breaker:
    """One circuit. `enter` before each attempt and `leave` after it, however it ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds, from whenever."""
        self.state = State.CLOSED
        self._clock = clock
        self._failed: set[object] = set()
        self._denied = False
        self._pause = FIRST_PAUSE_SECONDS
        self._probe_at = 0.0
        self._era = 0

    def check(self) -> None:
        """Raises CircuitOpenError unless an attempt may begin."""
        if self.state is State.HALF_OPEN:
            raise CircuitOpenError(PROBE_SECONDS)
        if self.state is State.OPEN and (wait := self._probe_at - self._clock()) > 0:
            raise CircuitOpenError(wait)

    def enter(self) -> int:
        """Begin an attempt, which is the probe if the circuit is open; what to `leave` with.

        Raises:
            CircuitOpenError: none may begin.
        """
        self.check()
        if self.state is State.OPEN:
            self._become(State.HALF_OPEN)
        return self._era

    def leave(self, era: int, verdict: Verdict, *, subject: object = None) -> Change | None:
        """The attempt is over. `subject`: whose it was; None: nobody's who could be the cause."""
        if era != self._era:
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

    def _answered(self) -> Change | None:
        self._failed.clear()
        if self.state is State.CLOSED:
            return None
        self._denied = False
        self._become(State.CLOSED)
        return Change.CLOSED

    def _has_failed(self, subject: object) -> Change | None:
        is_news = subject not in self._failed
        if self.state is State.CLOSED:
            self._failed.add(subject)
            if len(self._failed) < FAILURES:
                return None
            self._open(FIRST_PAUSE_SECONDS)
            return Change.OPENED
        # One that had failed before proves nothing new, and must not keep the others waiting for longer.
        if is_news and self._pause < LONGEST_PAUSE_SECONDS:
            self._failed.add(subject)
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        self._open(self._pause)
        return None

    def _was_denied(self) -> Change | None:
        was_denied, self._denied = self._denied, True
        self._open(LONGEST_PAUSE_SECONDS)
        return None if was_denied else Change.DENIED

    def _open(self, pause: float) -> None:
        self._pause = pause
        self._probe_at = self._clock() + pause
        self._become(State.OPEN)

    def _become(self, state: State) -> None:
        self.state = state
        self._era += 1


_OF_KEY: Final = {
    Verdict.FAILS: Verdict.NOTHING,  # perhaps nobody looked at the key
    Verdict.DENIES: Verdict.ANSWERS,
}


@dataclass(frozen=True, kw_only=True)
class Permit:
    """For one attempt: what it entered."""

    endpoint: Endpoint
    of_endpoint: int
    of_key: int


class Circuits:
    """A breaker for each endpoint, and one for all of them: a revoked key need not be tried at each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.openings: Counter[Endpoint] = Counter()
        """By the endpoint whose answer was the reason."""
        self._endpoints = {endpoint: Breaker(clock) for endpoint in Endpoint}
        self._key = Breaker(clock)

    def state(self, endpoint: Endpoint) -> State:
        """As its callers find it."""
        return max(self._endpoints[endpoint].state, self._key.state)

    def check(self, endpoint: Endpoint) -> None:
        """Raises CircuitOpenError unless an attempt may begin."""
        self._key.check()
        self._endpoints[endpoint].check()

    def enter(self, endpoint: Endpoint) -> Permit:
        """Begin an attempt. `leave` must follow.

        Raises:
            CircuitOpenError: none may begin.
        """
        self.check(endpoint)
        return Permit(endpoint=endpoint, of_endpoint=self._endpoints[endpoint].enter(), of_key=self._key.enter())

    def leave(self, permit: Permit, verdict: Verdict, *, subject: object = None) -> Change | None:
        """The attempt is over; see `Breaker.leave`."""
        of_key = _OF_KEY.get(verdict, verdict)
        of_endpoint = Verdict.NOTHING if verdict is Verdict.DENIES_ALL else verdict
        change = self._endpoints[permit.endpoint].leave(permit.of_endpoint, of_endpoint, subject=subject)
        change = self._key.leave(permit.of_key, of_key) or change
        if change in {Change.OPENED, Change.DENIED}:
            self.openings[permit.endpoint] += 1
        return change
