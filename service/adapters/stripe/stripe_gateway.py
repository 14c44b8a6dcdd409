"""The gateway port on the official Stripe SDK, whose requests go by aiohttp."""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from contracts.fields import is_session_id
from service.adapters.stripe import charge_mapping, outcome_mapping
from service.adapters.stripe.calls import BACKOFF_SECONDS, Answer, Calls, GatewayObserver
from service.adapters.stripe.circuit_breaker import CircuitBreakers
from service.adapters.stripe.clock_skew import SHORTEST_SESSION, ClockSkew
from service.adapters.stripe.sdk_requests import StripeRequests
from service.application.ports import ChargePage, EventPage, ToldPage, ToldSession
from service.domain.outcomes import Opened, Outcome, Refused, Unknown, UnknownCause
from service.domain.payment import Draft, Payment
from service.ratelimit.limiter import RateLimiter
from service.ratelimit.permit import Endpoint, Priority

_SESSIONS: Final = "/v1/checkout/sessions"
_CONNECT_SECONDS: Final = 3.0
_CLOCK_ERROR: Final = timedelta(minutes=62)
"""How far our clock may have been ahead of Stripe's when a payment was begun, before that was measured."""
_LATE: Final = timedelta(seconds=5)
_PAGE: Final = 100
_EVENTS: Final = [
    *(f"checkout.session.{what}" for what in ("completed", "async_payment_succeeded", "expired")),
    outcome_mapping.ASYNC_PAYMENT_FAILED,
]

_CHARGE_EVENTS: Final = [
    "charge.refunded",
    *("refund.created", "refund.failed", "refund.updated", "charge.refund.updated"),
    *(f"charge.dispute.{what}" for what in ("created", "updated", "closed", "funds_withdrawn", "funds_reinstated")),
]
"""Several tell the same, in case one is late: a refund and its failure, and a dispute that goes on."""


class StripeGateway:
    """Checkout sessions at Stripe. Bound to one event loop; call `close` at the end."""

    def __init__(
        self,
        *,
        api_key: str,
        api_base: str | None,
        concurrency: int,
        limiter: RateLimiter,
        observer: GatewayObserver,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        backoff_seconds: float = BACKOFF_SECONDS,
        billing_address: str = "auto",
        description: str | None = None,
    ) -> None:
        """`concurrency`: connections at once. `clock` counts the seconds for the circuit breakers, `now` is the time.

        `backoff_seconds`: the longest pause before the first repeat. `billing_address`: whether the page asks for it
        always (`required`); `description`: of what is sold, with the booking for `{booking}`.
        """
        self.livemode: Final = "_live_" in api_key
        self._page: Final = {} if billing_address == "auto" else {"billing_address_collection": billing_address}
        self._description: Final = description
        # The machine's certificates, or those of SSL_CERT_FILE, OpenSSL's own variable. Nothing turns the check off.
        self._tls = ssl.create_default_context()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=60, ssl=self._tls),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        )
        self.calls: Final = Calls(
            requests=StripeRequests(self._session, api_key=api_key, api_base=api_base),
            limiter=limiter,
            circuit_breakers=CircuitBreakers(clock),
            observer=observer,
            backoff_seconds=backoff_seconds,
            skew=ClockSkew(now),
        )

    @property
    def ahead(self) -> timedelta:
        """By the `Date` of its last answer."""
        return self.calls.skew.ahead

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def _opened(self, outcome: Opened | Unknown, answer: Answer) -> Opened | Unknown:
        """With the session's end by our clock, and how Stripe said it."""
        if isinstance(outcome, Unknown):
            return outcome
        return replace(outcome, expires_at=outcome.expires_at - self.calls.skew.ahead, evidence=answer.evidence)

    async def check_certificate(self, base: str) -> None:
        """Connect to the server at `base` for its certificate, and send nothing; without TLS there is nothing to do.

        Raises:
            OSError: it cannot be reached (TimeoutError in time), or its certificate cannot be trusted.
        """
        address = urlsplit(base)
        if address.scheme != "https":
            return
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(address.hostname, address.port or 443, ssl=self._tls)
        writer.close()

    def checkout_request(self, draft: Draft) -> Mapping[str, Any]:
        """Parameters of `POST /v1/checkout/sessions`, complete: a repeat must not differ in one letter."""
        metadata = {
            outcome_mapping.BOOKING: str(draft.booking_id),
            outcome_mapping.USER: str(draft.user_id),
            outcome_mapping.REFERENCE: draft.reference,
            # What an older copy of the database needs to know of it; the session's own amount may become another.
            outcome_mapping.AMOUNT: str(draft.money.minor),
            outcome_mapping.CURRENCY: draft.money.currency,
        }
        if draft.pay_until is not None:
            metadata[outcome_mapping.PAY_UNTIL] = str(int(draft.pay_until.timestamp()))
        product = {"name": f"Booking {draft.booking_id}"}
        price = {"currency": draft.money.currency, "unit_amount": draft.money.minor, "product_data": product}
        return {
            "mode": "payment",
            # Immediate methods only: the outcome is known the moment the payer is done.
            "allowed_payment_method_types": ["card"],
            "line_items": [{"price_data": price, "quantity": 1}],
            "success_url": draft.success_url,
            "cancel_url": draft.cancel_url,
            "expires_at": int((draft.expires_at + self.calls.skew.ahead).timestamp()),
            "client_reference_id": str(draft.booking_id),
            "metadata": metadata,
            # Stripe does not copy a session's metadata to its payment intent.
            "payment_intent_data": {**self._sold(draft), "metadata": metadata},
            # What the payer sees and what we compare must be one currency.
            "adaptive_pricing": {"enabled": False},
            **self._page,
        }

    def _sold(self, draft: Draft) -> Mapping[str, Any]:
        """What is sold, for the payer's statement at Stripe and for cards from abroad."""
        if self._description is None:
            return {}
        return {"description": self._description.replace("{booking}", str(draft.booking_id))}

    async def open(self, payment: Payment, *, timeout_seconds: float) -> Outcome:
        """Create the session under the payment's key, which Stripe keeps for a day, with a 500 or a session."""
        params = {**payment.gateway_request, "idempotency_key": f"payment-{payment.reference}"}
        answer = await self.calls.make(Endpoint.CREATE, payment, timeout_seconds, "post", _SESSIONS, **params)
        if isinstance(answer, Refused):
            return answer
        if not isinstance(answer, Answer):
            return _undecided(answer)
        return self._opened(outcome_mapping.of_created(answer.body), answer)

    async def find(self, payment: Payment, *, timeout_seconds: float) -> Opened | Unknown | None:
        """Look through all sessions of the time in which the payment's can have been made, a page at a time.

        Stripe makes none later than half an hour before its end, by its own clock; our clock may have been wrong when
        it was asked first.
        """
        asked = payment.gateway_request.get("expires_at")
        ends_at = payment.expires_at if asked is None else datetime.fromtimestamp(asked, UTC)
        first = payment.created_at - _CLOCK_ERROR + min(self.calls.skew.ahead, timedelta())
        last = ends_at - SHORTEST_SESSION + _LATE
        created = {"gte": int(first.timestamp()), "lte": int(last.timestamp())}
        params: dict[str, Any] = {"created": created, "limit": _PAGE, "priority": Priority.BACKGROUND}
        while True:
            answer = await self.calls.make(Endpoint.LIST, payment, timeout_seconds, "get", _SESSIONS, **params)
            if not isinstance(answer, Answer):
                return _undecided(answer)
            page = answer.body.get("data")
            if not isinstance(page, list) or not all(isinstance(session, Mapping) for session in page):
                return outcome_mapping.unreadable("a list without sessions")
            for session in page:
                if outcome_mapping.reference(session) == payment.reference:
                    return self._opened(outcome_mapping.of_found(session), answer)
            if not answer.body.get("has_more") or not page:
                return None
            if (after := page[-1].get("id")) == params.get("starting_after") or not isinstance(after, str):
                return outcome_mapping.unreadable("a list that cannot be read on")
            params["starting_after"] = after

    async def look_up(
        self, payment: Payment, *, timeout_seconds: float, priority: Priority = Priority.WAITED
    ) -> Outcome:
        """Retrieve the session."""
        answer = await self.calls.make(
            Endpoint.RETRIEVE, payment, timeout_seconds, "get", _path(payment), priority=priority
        )
        if isinstance(answer, Refused):
            return _undecided(answer)
        return _of_its_own(answer, payment) if isinstance(answer, Answer) else answer

    async def retrieve(self, session_id: str, *, timeout_seconds: float) -> ToldSession | Unknown | None:
        """Retrieve any session."""
        if not is_session_id(session_id):
            raise ValueError("not a session's id")
        path = f"{_SESSIONS}/{session_id}"
        answer = await self.calls.make(
            Endpoint.RETRIEVE, None, timeout_seconds, "get", path, priority=Priority.BACKGROUND
        )
        if isinstance(answer, Answer):
            return outcome_mapping.of_told(answer.body)
        return None if outcome_mapping.is_missing(answer) else _undecided(answer)

    async def expire(self, payment: Payment, *, timeout_seconds: float) -> Outcome:
        """Expire the session. Stripe refuses unless it is open, with no code to tell why: then it is looked up."""
        answer = await self.calls.make(Endpoint.EXPIRE, payment, timeout_seconds, "post", f"{_path(payment)}/expire")
        if isinstance(answer, Refused):
            return await self.look_up(payment, timeout_seconds=timeout_seconds)
        return _of_its_own(answer, payment) if isinstance(answer, Answer) else answer

    async def events(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> EventPage | Unknown:
        """One page of Stripe's events of checkout sessions, kept for 30 days."""
        params = _listing(since, after) | {"types": _EVENTS, "priority": Priority.WAITED}
        answer = await self.calls.make(Endpoint.EVENTS, None, timeout_seconds, "get", "/v1/events", **params)
        return outcome_mapping.of_events(answer.body) if isinstance(answer, Answer) else _undecided(answer)

    async def sessions(
        self, *, since: datetime, after: str | None = None, timeout_seconds: float
    ) -> EventPage | Unknown:
        """One page of all sessions of the account."""
        params = _listing(since, after) | {"priority": Priority.BACKGROUND}
        answer = await self.calls.make(Endpoint.LIST, None, timeout_seconds, "get", _SESSIONS, **params)
        return outcome_mapping.of_sessions(answer.body) if isinstance(answer, Answer) else _undecided(answer)

    async def told_sessions(
        self, *, since: datetime, until: datetime, after: str | None = None, timeout_seconds: float
    ) -> ToldPage | Unknown:
        """One page of the sessions of a time, which Stripe keeps for good."""
        params = _listing(since, after) | {"priority": Priority.BACKGROUND}
        params["created"] |= {"lt": int(until.timestamp())}
        answer = await self.calls.make(Endpoint.LIST, None, timeout_seconds, "get", _SESSIONS, **params)
        return outcome_mapping.of_told_page(answer.body) if isinstance(answer, Answer) else _undecided(answer)

    async def charge_events(
        self, *, since: datetime, after: str | None = None, timeout_seconds: float
    ) -> ChargePage | Unknown:
        """One page of Stripe's events of refunds and disputes."""
        params = _listing(since, after) | {"types": _CHARGE_EVENTS, "priority": Priority.BACKGROUND}
        answer = await self.calls.make(Endpoint.EVENTS, None, timeout_seconds, "get", "/v1/events", **params)
        return charge_mapping.of_events(answer.body) if isinstance(answer, Answer) else _undecided(answer)

    async def session_of_intent(self, payment_intent: str, *, timeout_seconds: float) -> ToldSession | Unknown | None:
        """List sessions by PaymentIntent, which the right to read sessions is enough for."""
        params: dict[str, Any] = {"payment_intent": payment_intent, "limit": 1, "priority": Priority.BACKGROUND}
        answer = await self.calls.make(Endpoint.LIST, None, timeout_seconds, "get", _SESSIONS, **params)
        if not isinstance(answer, Answer):
            return _undecided(answer)
        page = answer.body.get("data")
        if not isinstance(page, list) or not all(isinstance(session, Mapping) for session in page):
            return outcome_mapping.unreadable("a list without sessions")
        return outcome_mapping.of_told(page[0]) if page else None


def _listing(since: datetime, after: str | None) -> dict[str, Any]:
    """The parameters of a list's page."""
    params: dict[str, Any] = {"created": {"gte": int(since.timestamp())}, "limit": _PAGE}
    return params if after is None else params | {"starting_after": after}


def _undecided(answer: Refused | Unknown) -> Unknown:
    """A refusal of something else than to make a session decides nothing, nor does a 404 where no session was named."""
    if isinstance(answer, Refused) or answer.cause is UnknownCause.NO_SESSION:
        return Unknown(cause=UnknownCause.FAILED, detail=answer.detail, is_rejection=True)
    return answer


def _path(payment: Payment) -> str:
    """The path of the payment's session."""
    if not is_session_id(payment.session_id):
        raise ValueError(f"payment {payment.id} has no session")
    return f"{_SESSIONS}/{payment.session_id}"


def _of_its_own(answer: Answer, payment: Payment) -> Outcome:
    """How the session stands, if the answer is about the payment's session at all."""
    if answer.body.get("id") != payment.session_id:
        return outcome_mapping.unreadable("another session's answer")
    return replace(outcome_mapping.of_session(answer.body), evidence=answer.evidence)
