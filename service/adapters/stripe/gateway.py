"""The gateway port on the official Stripe SDK, over its aiohttp client: its default one is many times slower."""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import stripe

from contracts.fields import is_session_id
from service.adapters.stripe import outcomes
from service.application.budget import Budget, Endpoint, NoTurnError, Priority, Turn
from service.application.ports import CheckoutTerms, Page
from service.domain.outcomes import Opened, Outcome, Refused, Unknown, UnknownCause
from service.domain.payment import OPENED_WITHIN, Payment
from service.failpoints import FailPoint, hit

_log = logging.getLogger(__name__)

_SESSIONS: Final = "/v1/checkout/sessions"
_RETRIES: Final = 2
"""Of the SDK itself, under the same key: connection errors, 409 key in use, 5xx. Never past our own deadline."""
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
    ) -> None:
        """`concurrency`: connections at once; `budget`: whose turn it is, by default just as many at once.

        `told` hears of each call: the endpoint, `answered`, `refused` or why the outcome is not known, and its seconds.
        """
        stripe.enable_telemetry = False  # it would write into the home directory and send figures with each call
        self.livemode: Final = "_live_" in api_key
        self.in_flight = 0
        self._told = told
        self._budget = budget or Budget(concurrency=concurrency)
        # The machine's certificates, or those of SSL_CERT_FILE, OpenSSL's own variable. Nothing turns the check off.
        self._tls = ssl.create_default_context()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=60, ssl=self._tls),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        )
        # The SDK passes its own timeout per request unless it is None; the deadline around each call is ours.
        http_client = _HttpClient(timeout=None, session=self._session)
        self._stripe = stripe.StripeClient(
            api_key,
            http_client=http_client,
            max_network_retries=_RETRIES,
            base_addresses={"api": api_base.rstrip("/")} if api_base else {},
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
        answer = await self._call(
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
            answer = await self._call(
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
        self, payment: Payment, *, timeout_seconds: float, priority: Priority = Priority.WAITED
    ) -> Outcome:
        """Retrieve the session."""
        path = _path(payment)
        answer = await self._call(Endpoint.RETRIEVE, payment, timeout_seconds, "get", path, priority=priority)
        if isinstance(
            answer, Refused
        ):  # a session that Stripe made cannot become unknown to it; the key may be another
            return Unknown(cause=UnknownCause.DENIED, detail=answer.detail)
        if not isinstance(answer, Mapping):
            return answer
        return _of_its_own(answer, payment)

    async def expire(self, payment: Payment, *, timeout_seconds: float) -> Outcome:
        """Expire the session. Stripe refuses unless it is open, with no code to tell why: then it is looked up."""
        answer = await self._call(Endpoint.EXPIRE, payment, timeout_seconds, "post", f"{_path(payment)}/expire")
        if isinstance(answer, Refused):
            return await self.look_up(payment, timeout_seconds=timeout_seconds)
        return _of_its_own(answer, payment) if isinstance(answer, Mapping) else answer

    async def events(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> Page | Unknown:
        """One page of Stripe's events of checkout sessions, kept for 30 days."""
        params = _listing(since, after) | {"types": _EVENTS}
        answer = await self._call(
            Endpoint.EVENTS, None, timeout_seconds, "get", "/v1/events", priority=Priority.WAITED, **params
        )
        return outcomes.of_events(answer) if isinstance(answer, Mapping) else _undecided(answer)

    async def sessions(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> Page | Unknown:
        """One page of all sessions of the account."""
        params = _listing(since, after)
        answer = await self._call(
            Endpoint.LIST, None, timeout_seconds, "get", _SESSIONS, priority=Priority.BACKGROUND, **params
        )
        return outcomes.of_sessions(answer) if isinstance(answer, Mapping) else _undecided(answer)

    async def _call(
        self,
        endpoint: Endpoint,
        payment: Payment | None,
        timeout_seconds: float,
        method: str,
        path: str,
        *,
        priority: Priority = Priority.WRITE,
        turn: Turn | None = None,
        **params: Any,
    ) -> Mapping[str, Any] | Refused | Unknown:
        """Stripe's answer as plain data, or what its absence means.

        The SDK's raw request has all of its retries and errors, but does not build a tree of objects from an answer of
        which we read five members: that was a quarter of the service's work.
        """
        hit(FailPoint.GATEWAY_NOT_CALLED)
        started, result = time.perf_counter(), "cancelled"
        self.in_flight += 1
        try:
            async with asyncio.timeout(timeout_seconds), self._turn(endpoint, priority, timeout_seconds, turn):
                answer = (await self._stripe.raw_request_async(method, path, **params)).data
            result = "answered" if isinstance(answer, Mapping) else UnknownCause.UNREADABLE.value
        except NoTurnError as error:
            result = UnknownCause.BUSY.value
            return Unknown(cause=UnknownCause.BUSY, wait_seconds=error.wait_seconds)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in the SDK is an outcome, and never a failure
            outcome = outcomes.of_error(error)
            result = outcome.cause.value if isinstance(outcome, Unknown) else outcome.kind.value
            fields: dict[str, Any] = {"gateway_call": endpoint.value, "gateway_detail": outcome.detail}
            if payment is not None:
                fields |= {"payment_id": payment.id}
            if result == UnknownCause.DENIED:
                # An operator must act: a revoked key does not come back by itself, nor does a missing permission.
                _log.error("Stripe refuses STRIPE_API_KEY (%s)", outcome.detail, extra=fields)
            else:
                of = "" if payment is None else f" of payment {payment.id}"
                _log.warning("Stripe %s%s: %s", endpoint.value, of, result, extra=fields)
            return outcome
        finally:
            self.in_flight -= 1
            self._told(endpoint.value, result, time.perf_counter() - started)
        return answer if isinstance(answer, Mapping) else outcomes.unreadable("not an object")

    @contextlib.asynccontextmanager
    async def _turn(
        self, endpoint: Endpoint, priority: Priority, seconds: float, turn: Turn | None
    ) -> AsyncGenerator[None]:
        """A turn of the caller's if it holds an unused one, otherwise the next that comes."""
        if turn is not None and not turn.used:
            turn.used = True
            yield
            return
        async with self._budget.turn(endpoint, priority=priority, seconds=seconds) as own:
            own.used = True
            yield


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
