"""The control API below ``/_sandbox/``: what tests and demos need beside Stripe's own API.

Refusals are ``{"error": "one sentence"}`` with 400, 404, 405 or 409. No fault ever touches these calls.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from deploy.sandbox import cards
from deploy.sandbox.errors import ApiError
from deploy.sandbox.faults import FaultInjector
from deploy.sandbox.state import Account, NotOpenError
from deploy.sandbox.stats import Stats
from deploy.sandbox.web import Request, Response, json_response

LONGEST_ADVANCE_SECONDS = 10 * 366 * 24 * 3600
PAYER = {"email": "payer@example.com", "name": "Test Payer"}


@dataclass(frozen=True)
class RefusedError(Exception):
    """The call cannot be done; ``message`` says why."""

    status: int
    message: str


class Control:
    """The control calls of one sandbox."""

    def __init__(self, account: Account, faults: FaultInjector, stats: Stats, reset: Callable[[], None]) -> None:
        self._account = account
        self._faults = faults
        self._stats = stats
        self._reset = reset

    def answer(self, request: Request) -> Response:
        """The answer to a request below ``/_sandbox/``."""
        self._account.expire_due()
        path = request.path.removeprefix("/_sandbox/")
        calls: dict[str, tuple[str, Callable[[], Any]]] = {
            "stats": ("GET", self.stats),
            "ledger": ("GET", lambda: self._account.sessions.bodies),
            "config": ("POST", partial(self.config, request)),
            "clock": ("POST", partial(self.clock, request)),
            "reset": ("POST", self.reset),
        }
        parts = path.split("/")
        method: str
        call: Callable[[], Any]
        if len(parts) == 3 and parts[0] == "sessions" and parts[2] == "pay":  # noqa: PLR2004 - sessions/{id}/pay
            method, call = "POST", partial(self.pay, parts[1], request)
        elif path in calls:
            method, call = calls[path]
        else:
            return _refusal(404, f"There is no {request.path} here.")
        if request.method != method:
            return _refusal(405, f"{request.path} takes {method} only.", [("Allow", method)])
        try:
            return json_response(200, call())
        except RefusedError as refused:
            return _refusal(refused.status, refused.message)

    def pay(self, identifier: str, request: Request) -> Any:
        """``{"card", "authentication"?}``: what a payer does on the page. The session, also after a decline."""
        number, authenticated = _payment(_body(request))
        card = cards.find(number)
        try:
            is_open = self._account.session(identifier)["status"] == "open"
            if is_open and card.authenticates and authenticated is None:
                message = 'This card wants 3-D Secure: say "authentication": "complete" or "fail".'
                raise RefusedError(400, message)
            return self._account.pay(identifier, card, PAYER, authenticated=authenticated)
        except NotOpenError as error:
            raise RefusedError(409, f"This session is {error.status}; it takes no payment.") from error
        except ApiError as error:
            raise RefusedError(error.status, error.message) from error

    def config(self, request: Request) -> Any:
        """Merge the faults that are named; the answer is all settings in force."""
        try:
            self._faults.merge(_body(request))
        except ValueError as error:
            raise RefusedError(400, f"{error}.") from error
        return vars(self._faults.settings)

    def stats(self) -> Any:
        """Calls per endpoint, sessions per status, and the double-charge figure.

        ``max_payable_per_booking`` is the most sessions of one booking that were, at any one moment since the start
        or the last reset, either open or complete: each of them has taken the payer's money or could still take it.
        1 means that no booking was ever in danger of being charged twice. A session's booking is its
        ``metadata.bookingId``, else its ``client_reference_id``; sessions without either are not counted.
        """
        statuses = ("open", "complete", "expired")
        return {
            "calls": self._stats.as_json(),
            "sessions": {status: self._account.sessions.count(status) for status in statuses},
            "max_payable_per_booking": self._account.max_payable_per_booking,
        }

    def clock(self, request: Request) -> Any:
        """``{"advance_seconds": n}`` moves the clock forward; ``{"now"}`` in unix seconds."""
        body = _body(request)
        seconds = body.get("advance_seconds") if isinstance(body, dict) and len(body) == 1 else None
        if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 <= seconds <= LONGEST_ADVANCE_SECONDS:
            message = 'Say {"advance_seconds": n} with a whole n from 0 to ten years; the clock never goes back.'
            raise RefusedError(400, message)
        return {"now": self._account.advance(seconds)}

    def reset(self) -> Any:
        """Forget sessions, events, keys, stats, faults and the clock; ``{"now"}``."""
        self._reset()
        return {"now": self._account.now()}


def _payment(body: Any) -> tuple[str, bool | None]:
    if not isinstance(body, dict) or not isinstance(body.get("card"), str) or set(body) - {"card", "authentication"}:
        raise RefusedError(400, 'Say {"card": "4242 4242 4242 4242"}, and "authentication" for a 3-D Secure card.')
    number = cards.digits(body["card"])
    if number is None:
        raise RefusedError(400, "A card number has 12 to 19 digits.")
    answers = {None: None, "complete": True, "fail": False}
    authentication = body.get("authentication")
    if not isinstance(authentication, str | None) or authentication not in answers:
        raise RefusedError(400, '"authentication" is "complete" or "fail".')
    return number, answers[authentication]


def _body(request: Request) -> Any:
    try:
        return json.loads(request.body or b"{}")
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "The body must be JSON.") from error


def _refusal(status: int, message: str, headers: list[tuple[str, str]] | None = None) -> Response:
    return json_response(status, {"error": message}, headers)
