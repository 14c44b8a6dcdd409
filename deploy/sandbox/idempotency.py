"""Idempotency keys (https://docs.stripe.com/api/idempotent_requests).

The answer to the first *executed* request is kept under its key for 24 hours, whatever its status, a 500 included.
A request that is refused before its work begins leaves no trace, so its key may be used again.
"""

from collections import OrderedDict
from dataclasses import dataclass

from deploy.sandbox import errors

KEPT_SECONDS = 24 * 3600
LONGEST_KEY = 255


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a call was answered with, and by which request."""

    status: int
    body: bytes
    request_id: str


@dataclass(kw_only=True)
class Claim:
    """One key in use, for the request with this digest; ``answer`` is there once the work is done."""

    key: str
    request: bytes
    claimed_at: int
    answer: Answer | None = None


class Keys:
    """The account's idempotency keys, oldest first."""

    def __init__(self) -> None:
        self._claims: OrderedDict[str, Claim] = OrderedDict()

    def claim(self, key: str, request: bytes, now: int) -> Claim:
        """The key's claim: a fresh one, or an answered one to replay.

        Raises:
            ApiError: 400 for a key that is too long or was used for another request, 409 while its first request
                is still running.
        """
        self._forget(now)
        if len(key) > LONGEST_KEY:
            raise errors.invalid(f"Idempotency keys can be at most {LONGEST_KEY} characters long.")
        known = self._claims.get(key)
        if known is None:
            known = self._claims[key] = Claim(key=key, request=request, claimed_at=now)
            return known
        if known.request != request:
            raise errors.key_reused(key)
        if known.answer is None:
            raise errors.key_in_use(key)
        return known

    def release(self, claim: Claim) -> None:
        """Forget a claim whose work never began."""
        if claim.answer is None and self._claims.get(claim.key) is claim:
            del self._claims[claim.key]

    def _forget(self, now: int) -> None:
        while self._claims:
            oldest = next(iter(self._claims.values()))
            if now - oldest.claimed_at <= KEPT_SECONDS:
                return
            del self._claims[oldest.key]
