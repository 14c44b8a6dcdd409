"""The gateway port on the official Stripe SDK, over its aiohttp client: its default one is many times slower."""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import stripe

from contracts.fields import is_session_id
from service.adapters.stripe import outcomes
from service.adapters.stripe.calls import BACKOFF_SECONDS, Calls
from service.application.breaker import Circuits
from service.application.budget import Budget, Endpoint, Priority, Turn
from service.application.ports import CheckoutTerms, Page
from service.domain.outcomes import Opened, Outcome, Refused, Unknown, UnknownCause
from service.domain.payment import OPENED_WITHIN, Payment
from service.failpoints import FailPoint, hit

_SESSIONS: Final = "/v1/checkout/sessions"
_CONNECT_SECONDS: Final = 3.0
_CLOCK_SKEW: Final = timedelta(minutes=2)
_PAGE: Final = 100
_MAX_PAGES: Final = 100
_EVENTS: Final = [
    f"checkout.session.{what}" for what in ("completed", "async_payment_succeeded", "async_payment_failed", "expired")
]


class _HttpClient(stripe.AIOHTTPClient):
    """The SDK's own, with a fail point between an answer's head and its body."""

    async def request_stream_async(self, *request: Any, **options: Any) -> Any:
        answer = await super().request_stream_async(*request, **options)
        hit(FailPoint.ANSWER_LOST)
        return answer


class StripeGateway:
    """Checkout sessions at Stripe. Bound to one event loop; call `close` at the end."""

    def __init__(
        self,
        *,
        api_key: str,
        api_base: str | None,
        concurrency: int,
        budget: Budget | None = None,
        told: Callable[[str, str, float], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
        backoff_seconds: float = BACKOFF_SECONDS,
    ) -> None:
        """`concurrency`: connections at once; `budget`: whose turn it is, by default just as many at once.

        `told` hears of each call, see `Calls`. `clock` counts the seconds for the circuit breakers;
        `backoff_seconds`: the longest pause before the first repeat.
        """
        stripe.enable_telemetry = False  # it would write into the home directory and send figures with each call
        self.livemode: Final = "_live_" in api_key
        # The machine's certificates, or those of SSL_CERT_FILE, OpenSSL's own variable. Nothing turns the check off.
        self._tls = ssl.create_default_context()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=60, ssl=self._tls),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        )
        # The SDK passes its own timeout per request unless it is None; deadlines and repeats are ours.
        client = stripe.StripeClient(
            api_key,
            http_client=_HttpClient(timeout=None, session=self._session),
            max_network_retries=0,
            base_addresses={"api": api_base.rstrip("/")} if api_base else {},
        )
        self.calls: Final = Calls(
            client=client,
            budget=budget or Budget(concurrency=concurrency),
            circuits=Circuits(clock),
            told=told,
            backoff_seconds=backoff_seconds,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def meet(self, base: str) -> None:
        """Let the server at `base` show its certificate, without a word said; nothing to do without TLS.

        Raises:
            OSError: it cannot be reached (TimeoutError in time), or its certificate cannot be trusted.
        """
        address = urlsplit(base)
        if address.scheme != "https":
            return
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(address.hostname, address.port or 443, ssl=self._tls)
        writer.close()

    def checkout_request(self, terms: CheckoutTerms) -> Mapping[str, Any]:
        """Parameters of `POST /v1/checkout/sessions`, complete: a repeat must not differ in one letter."""
        metadata = {
            "bookingId": str(terms.booking_id),
            "userId": str(terms.user_id),
            outcomes.REFERENCE: terms.reference,
        }
        product = {"name": f"Booking {terms.booking_id}"}
        price = {"currency": terms.currency, "unit_amount": terms.amount_minor, "product_data": product}
        return {
            "mode": "payment",
            # Immediate methods only: the outcome is known the moment the payer is done.
            "allowed_payment_method_types": ["card"],
            "line_items": [{"price_data": price, "quantity": 1}],
            "success_url": terms.success_url,
            "cancel_url": terms.cancel_url,
            "expires_at": int(terms.expires_at.timestamp()),
            "client_reference_id": str(terms.booking_id),
            "metadata": metadata,
            # Stripe does not copy a session's metadata to its payment intent.
            "payment_intent_data": {"metadata": metadata},
            # What the payer sees and what we compare must be one currency.
            "adaptive_pricing": {"enabled": False},
        }

    async def open(
        self, payment: Payment, *, timeout_seconds: float, proven_absent: bool = False, turn: Turn | None = None
    ) -> Outcome:
        """Create the session under the payment's key. Stripe replays a 500 for a day, hence the second key."""
        key = f"payment-{payment.reference}" + ("-absent" if proven_absent else "")
        answer = await self.calls.make(
            Endpoint.CREATE,
            payment,
            timeout_seconds,
            "post",
            _SESSIONS,
            turn=turn,
            idempotency_key=key,
            **payment.gateway_request,
        )
        return outcomes.of_created(answer) if isinstance(answer, Mapping) else answer

    async def find(self, payment: Payment, *, timeout_seconds: float) -> Opened | Unknown | None:
        """Look through the sessions of the only minutes in which the payment's can have been made."""
        until = payment.created_at + OPENED_WITHIN + _CLOCK_SKEW
        created = {"gte": int((payment.created_at - _CLOCK_SKEW).timestamp()), "lte": int(until.timestamp())}
        params: dict[str, Any] = {"created": created, "limit": _PAGE}
        for _ in range(_MAX_PAGES):
            answer = await self.calls.make(
                Endpoint.LIST, payment, timeout_seconds, "get", _SESSIONS, priority=Priority.BACKGROUND, **params
            )
            if not isinstance(answer, Mapping):
                return _undecided(answer)
            page = answer.get("data")
            if not isinstance(page, list) or not all(isinstance(session, Mapping) for session in page):
                return outcomes.unreadable("a list without sessions")
            for session in page:
                if outcomes.reference(session) == payment.reference:
                    return outcomes.of_found(session)
            if not answer.get("has_more") or not page:
                return None
            params["starting_after"] = page[-1].get("id")
        return Unknown(cause=UnknownCause.FAILED, detail="too many sessions to look through")

    async def look_up(
        self,
        payment: Payment,
        *,
        timeout_seconds: float,
        priority: Priority = Priority.WAITED,
        turn: Turn | None = None,
    ) -> Outcome:
        """Retrieve the session."""
        path = _path(payment)
        answer = await self.calls.make(
            Endpoint.RETRIEVE, payment, timeout_seconds, "get", path, priority=priority, turn=turn
        )
        if isinstance(
            answer, Refused
        ):  # a session that Stripe made cannot become unknown to it; the key may be another
            return Unknown(cause=UnknownCause.DENIED, detail=answer.detail)
        if not isinstance(answer, Mapping):
            return answer
        return _of_its_own(answer, payment)

    async def expire(self, payment: Payment, *, timeout_seconds: float) -> Outcome:
        """Expire the session. Stripe refuses unless it is open, with no code to tell why: then it is looked up."""
        answer = await self.calls.make(Endpoint.EXPIRE, payment, timeout_seconds, "post", f"{_path(payment)}/expire")
        if isinstance(answer, Refused):
            return await self.look_up(payment, timeout_seconds=timeout_seconds)
        return _of_its_own(answer, payment) if isinstance(answer, Mapping) else answer

    async def events(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> Page | Unknown:
        """One page of Stripe's events of checkout sessions, kept for 30 days."""
        params = _listing(since, after) | {"types": _EVENTS}
        answer = await self.calls.make(
            Endpoint.EVENTS, None, timeout_seconds, "get", "/v1/events", priority=Priority.WAITED, **params
        )
        return outcomes.of_events(answer) if isinstance(answer, Mapping) else _undecided(answer)

    async def sessions(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> Page | Unknown:
        """One page of all sessions of the account."""
        params = _listing(since, after)
        answer = await self.calls.make(
            Endpoint.LIST, None, timeout_seconds, "get", _SESSIONS, priority=Priority.BACKGROUND, **params
        )
        return outcomes.of_sessions(answer) if isinstance(answer, Mapping) else _undecided(answer)


def _listing(since: datetime, after: str | None) -> dict[str, Any]:
    """The parameters of a list's page."""
    params: dict[str, Any] = {"created": {"gte": int(since.timestamp())}, "limit": _PAGE}
    return params if after is None else params | {"starting_after": after}


def _undecided(answer: Refused | Unknown) -> Unknown:
    """A refusal to list decides nothing about a payment."""
    return answer if isinstance(answer, Unknown) else Unknown(cause=UnknownCause.FAILED, detail=answer.detail)


def _path(payment: Payment) -> str:
    """The path of the payment's session."""
    if not is_session_id(payment.session_id):
        raise ValueError(f"payment {payment.id} has no session")
    return f"{_SESSIONS}/{payment.session_id}"


def _of_its_own(session: Mapping[str, Any], payment: Payment) -> Outcome:
    """How the session stands, if the answer is about the payment's session at all."""
    if session.get("id") != payment.session_id:
        return outcomes.unreadable("another session's answer")
    return outcomes.of_session(session)
