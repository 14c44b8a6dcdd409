"""Idempotency keys (https://docs.stripe.com/api/idempotent_requests).

The answer to the first *executed* request is stored under its key for 24 hours, whatever its status, a 500 included.
A request that is refused before execution leaves no trace, so its key may be used again.
"""

from collections import OrderedDict
from dataclasses import dataclass

from tools.sandbox import stripe_errors

KEPT_SECONDS = 24 * 3600
LONGEST_KEY = 255


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a call, and the id of the request that produced it."""

    status: int
    body: bytes
    request_id: str


@dataclass(kw_only=True)
class Claim:
    """A key in use by the request with this digest; ``answer`` is set once it has been executed."""

    key: str
    request: bytes
    claimed_at: int
    answer: Answer | None = None


class IdempotencyKeys:
    """The account's idempotency keys, oldest first."""

    def __init__(self) -> None:
        self._claims: OrderedDict[str, Claim] = OrderedDict()

    def claim(self, key: str, request: bytes, now: int) -> Claim:
        """The key's claim: a new one, or an answered one to replay.

        Raises:
            ApiError: 400 for a key that is too long or was used for another request, 409 while its first request runs.
        """
        self._forget(now)
        if len(key) > LONGEST_KEY:
            raise stripe_errors.invalid(f"Idempotency keys can be at most {LONGEST_KEY} characters long.")
        known = self._claims.get(key)
        if known is None:
            known = self._claims[key] = Claim(key=key, request=request, claimed_at=now)
            return known
        if known.request != request:
            raise stripe_errors.key_reused(key)
        if known.answer is None:
            raise stripe_errors.key_in_use(key)
        return known

    def release(self, claim: Claim) -> None:
        """Deletes a claim whose request was not executed."""
        if claim.answer is None and self._claims.get(claim.key) is claim:
            del self._claims[claim.key]

    def _forget(self, now: int) -> None:
        while self._claims:
            oldest = next(iter(self._claims.values()))
            if now - oldest.claimed_at <= KEPT_SECONDS:
                return
            del self._claims[oldest.key]
