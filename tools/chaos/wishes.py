"""What clients wished for, and what they were answered."""

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One request, in seconds from the start of the load; without an answer `status` is 0 and `error` says why."""

    at: float
    seconds: float
    status: int
    error: str = ""

    @property
    def acknowledged(self) -> bool:
        """Answered 2xx."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def refused(self) -> bool:
        """Answered 4xx."""
        return HTTPStatus.BAD_REQUEST <= self.status < HTTPStatus.INTERNAL_SERVER_ERROR


@dataclass(kw_only=True)
class Operation:
    """One wish of a client with all attempts; `answer` is the body of the last answer."""

    kind: str
    booking: int
    began: float
    minor: int = 0
    asked: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    answer: dict[str, Any] = field(default_factory=dict)
    deserted: bool = False

    @property
    def acknowledged(self) -> bool:
        return bool(self.attempts) and self.attempts[-1].acknowledged

    @property
    def refused(self) -> bool:
        return bool(self.attempts) and self.attempts[-1].refused

    @property
    def recovered(self) -> bool:
        """Acknowledged after a failed attempt."""
        return self.acknowledged and not all(attempt.acknowledged for attempt in self.attempts)

    @property
    def ended(self) -> float:
        return self.attempts[-1].at + self.attempts[-1].seconds if self.attempts else self.began


@dataclass(kw_only=True)
class Command:
    """A fire-and-forget create; once `confirmed` the broker must not lose it."""

    message_id: str
    booking: int
    minor: int
    at: float = 0.0
    confirmed: bool = False
