"""The control API below ``/_sandbox/``: what tests and demos need beside Stripe's own API.

Refusals are ``{"error": "one sentence"}`` with 400, 404, 405 or 409. Faults never affect these calls.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from tools.sandbox import after_payment, cards
from tools.sandbox.account import NotOpenError
from tools.sandbox.accounts import Accounts
from tools.sandbox.after_payment import ImpossibleError, TooMuchError
from tools.sandbox.asgi import Request, Response, json_response
from tools.sandbox.fault_injector import FaultInjector, Faults
from tools.sandbox.stepped_clock import SteppedClock
from tools.sandbox.stripe_api import Counts
from tools.sandbox.stripe_errors import ApiError

LONGEST_STEP = 10 * 366 * 24 * 3600
PAYER = {"email": "payer@example.com", "name": "Test Payer"}
Body = TypeVar("Body", bound=BaseModel)


class Payment(BaseModel, extra="forbid"):
    """The body of a payment; ``authentication`` is the payer's answer to 3-D Secure."""

    card: str
    authentication: Literal["complete", "fail"] | None = None


class Settlement(BaseModel, extra="forbid"):
    """The body of a delayed payment; ``amount_total`` in minor units, if another amount is collected."""

    outcome: Literal["paid", "failed", "unpaid"]
    amount_total: int | None = Field(default=None, ge=1, lt=10**12)


class Refund(BaseModel, extra="forbid"):
    """The body of a refund; ``amount`` in minor units. It is made and fails, or an earlier one, ``refund``, fails."""

    amount: int | None = Field(default=None, ge=1, lt=10**12)
    fail: bool = False
    refund: str | None = None


class Dispute(BaseModel, extra="forbid"):
    """The body of a dispute; with ``status`` the one that is there goes on."""

    status: Literal["needs_response", "under_review", "won", "lost"] | None = None


class Advance(BaseModel, extra="forbid"):
    """The body of a step of the clock, forward or back."""

    advance_seconds: int = Field(ge=-LONGEST_STEP, le=LONGEST_STEP)


@dataclass(frozen=True)
class RefusedError(Exception):
    """The call is refused; ``message`` says why."""

    status: int
    message: str


class ControlApi:
    """The control calls of one sandbox; a session is found in whichever account it is."""

    def __init__(
        self,
        accounts: Accounts,
        clock: SteppedClock,
        faults: FaultInjector,
        stats: dict[str, Counts],
        reset: Callable[[], None],
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._faults = faults
        self._stats = stats
        self._reset = reset

    def answer(self, request: Request) -> Response:
        """The answer to a request below ``/_sandbox/``."""
        self._accounts.expire_due()
        found = self._call(request)
        if found is None:
            return _refusal(404, f"There is no {request.path} here.")
        method, call = found
        if request.method != method:
            return _refusal(405, f"{request.path} takes {method} only.", [("Allow", method)])
        try:
            return json_response(200, call())
        except (RefusedError, ApiError) as refused:
            return _refusal(refused.status, refused.message)
        except ImpossibleError as error:
            return _refusal(409, str(error))

    def _call(self, request: Request) -> tuple[str, Callable[[], Any]] | None:
        """The method and the work of a path."""
        path = request.path.removeprefix("/_sandbox/")
        acts = {"pay": self.pay, "settle": self.settle, "refund": self.refund, "dispute": self.dispute}
        parts = path.split("/")
        if len(parts) == 3 and parts[0] == "sessions" and parts[2] in acts:  # noqa: PLR2004 - sessions/{id}/act
            return "POST", partial(acts[parts[2]], parts[1], request)
        calls: dict[str, tuple[str, Callable[[], Any]]] = {
            "stats": ("GET", self.stats),
            "ledger": ("GET", self._accounts.ledger),
            "config": ("POST", partial(self.config, request)),
            "clock": ("POST", partial(self.clock, request)),
            "reset": ("POST", self.reset),
        }
        return calls.get(path)

    def pay(self, identifier: str, request: Request) -> Any:
        """``{"card", "authentication"?}``: pays as on the hosted page. Answers the session, also after a decline."""
        payment = _parsed(Payment, request)
        number = cards.digits(payment.card)
        if number is None:
            raise RefusedError(400, "A card number has 12 to 19 digits.")
        card = cards.find(number)
        authenticated = None if payment.authentication is None else payment.authentication == "complete"
        try:
            account = self._accounts.holding(identifier)
            is_open = account.session(identifier)["status"] == "open"
            if is_open and card.authenticates and authenticated is None:
                message = 'This card wants 3-D Secure: say "authentication": "complete" or "fail".'
                raise RefusedError(400, message)
            return account.pay(identifier, card, PAYER, authenticated=authenticated)
        except NotOpenError as error:
            raise RefusedError(409, f"This session is {error.status}; it takes no payment.") from error

    def settle(self, identifier: str, request: Request) -> Any:
        """``{"outcome", "amount_total"?}``: pays by a delayed method. Answers the session."""
        body = _parsed(Settlement, request)
        account = self._accounts.holding(identifier)
        return after_payment.settle(account, identifier, body.outcome, PAYER, amount_total=body.amount_total)

    def refund(self, identifier: str, request: Request) -> Any:
        """``{"amount"?, "fail"?}``: gives back what the charge has left, or a part of it. Answers the refund.

        With ``"fail": true`` the payer's bank then sends it back; with ``"refund": "re_..."``, that earlier one.
        """
        body = _parsed(Refund, request)
        if body.refund is not None and (body.amount is not None or not body.fail):
            raise RefusedError(400, 'refund: an earlier one can only "fail", as a whole.')
        account = self._accounts.holding(identifier)
        if body.refund is not None:
            return after_payment.fail_refund(account, identifier, body.refund)
        try:
            made = after_payment.refund(account, identifier, body.amount)
        except TooMuchError as error:
            raise RefusedError(400, f"{error}.") from error
        return after_payment.fail_refund(account, identifier, made["id"]) if body.fail else made

    def dispute(self, identifier: str, request: Request) -> Any:
        """``{}``: the payer's bank takes back what the charge has left. Answers the dispute.

        ``{"status"}``: that dispute goes on, or ends.
        """
        body = _parsed(Dispute, request)
        account = self._accounts.holding(identifier)
        if body.status is not None:
            return after_payment.go_on(account, identifier, body.status)
        return after_payment.dispute(account, identifier)

    def config(self, request: Request) -> Any:
        """Merges the named faults; answers all settings in force."""
        try:
            self._faults.merge(_parsed(Faults, request))
        except ValueError as error:
            raise RefusedError(400, f"{error}.") from error
        return self._faults.settings.model_dump()

    def stats(self) -> Any:
        """Calls per endpoint, sessions per status, and the double-charge figure.

        ``max_payable_per_booking`` is the most sessions of one booking that were, at any one moment since the start
        or the last reset, either open or complete, and not failed: paid or still payable. 1 means that no booking could
        ever have been charged twice. A session's booking is its ``metadata.bookingId``, else its
        ``client_reference_id``; sessions without either are not counted.
        """
        statuses = ("open", "complete", "expired")
        return {
            "calls": {endpoint: asdict(counts) for endpoint, counts in sorted(self._stats.items())},
            "sessions": {status: self._accounts.count(status) for status in statuses},
            "max_payable_per_booking": self._accounts.payable.most_per_booking,
        }

    def clock(self, request: Request) -> Any:
        """``{"advance_seconds": n}`` moves the clock, back if negative; answers ``{"now"}`` in unix seconds."""
        try:
            self._clock.step(_parsed(Advance, request).advance_seconds)
        except ValueError as error:
            raise RefusedError(400, f"{error}.") from error
        self._accounts.expire_due()
        return {"now": self._clock.now()}

    def reset(self) -> Any:
        """Deletes sessions, events, keys, stats and faults and resets the clock; answers ``{"now"}``."""
        self._reset()
        return {"now": self._clock.now()}


def _parsed(kind: type[Body], request: Request) -> Body:
    try:
        return kind.model_validate_json(request.body or b"{}", strict=True)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors())
        raise RefusedError(400, f"{'; '.join(problems)}.") from error


def _refusal(status: int, message: str, headers: list[tuple[str, str]] | None = None) -> Response:
    return json_response(status, {"error": message}, headers)
