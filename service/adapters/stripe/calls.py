"""A call to Stripe: its circuit breaker, its permit, the attempts within its deadline, and what they mean."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from runtime import tracing
from runtime.aio import Backoff
from service.adapters.stripe import outcome_mapping
from service.adapters.stripe.attempt_errors import header_of, is_limit, may_pass, status_of, verdict_of
from service.adapters.stripe.circuit_breaker import CircuitBreakers, CircuitChange, CircuitOpenError, Verdict
from service.adapters.stripe.clock_skew import ClockSkew
from service.adapters.stripe.sdk_requests import StripeRequests
from service.application.ports.gateway_health import EndpointHealth
from service.domain.outcomes import Refused, Unknown, UnknownCause
from service.domain.payment import Payment
from service.failpoints import FailPoint, hit
from service.ratelimit.limiter import RateLimiter
from service.ratelimit.permit import Endpoint, PermitDeniedError, Priority

_log = logging.getLogger(__name__)

ATTEMPTS: Final = 3
BACKOFF_SECONDS: Final = 0.5
"""The longest pause before the second attempt; it doubles with each one."""
_LONGEST_BACKOFF_SECONDS: Final = 60.0
FAIR_SECONDS: Final = 1.0
"""An attempt that was given less, and did not end in that time, says nothing of Stripe."""

_LONGEST_ID: Final = 64
"""Characters of a request id of Stripe's that are kept: more than twice what they have."""
_FAILED: Final = frozenset(
    {
        "suspended",
        UnknownCause.TIMEOUT.value,
        UnknownCause.FAILED.value,
        UnknownCause.KEPT.value,
        UnknownCause.UNREADABLE.value,
        UnknownCause.DENIED.value,
        UnknownCause.MISCONFIGURED.value,
    }
)
"""How a call ends without an answer, other than for want of a permit."""
_LOUDER: Final = frozenset({UnknownCause.DENIED.value, UnknownCause.MISCONFIGURED.value})
"""These have a log line of their own."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Stripe's answer as plain data. `evidence`: by which call and request it came, and how long that took."""

    body: Mapping[str, Any]
    evidence: Mapping[str, str]


_Answer = Answer | Refused | Unknown


class GatewayObserver(Protocol):
    """Counts calls to Stripe."""

    def on_gateway_attempt(self, endpoint: str) -> None:
        """A request is sent."""

    def on_gateway_call(self, endpoint: str, result: str, seconds: float) -> None:
        """A call is over, with all its attempts and waits.

        `result`: `answered`, `refused`, `suspended` (the circuit is open, nothing was sent), `cancelled`, or why the
        outcome is unknown.
        """

    def on_circuit_opened(self, endpoint: str) -> None:
        """The circuit breaker has opened because of this endpoint's answer."""


@dataclass(frozen=True, kw_only=True)
class _Call:
    """What all attempts of a call have in common. `deadline`: in the event loop's time."""

    endpoint: Endpoint
    payment: Payment | None
    priority: Priority
    deadline: float
    request: tuple[str, str]
    params: Mapping[str, Any]
    idempotency_key: str | None

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - asyncio.get_running_loop().time()


@dataclass(kw_only=True, eq=False)
class Calls:
    """Makes the calls; one per process. `in_flight` counts those under way, whether they wait or are sent."""

    requests: StripeRequests
    limiter: RateLimiter
    circuit_breakers: CircuitBreakers
    observer: GatewayObserver
    backoff_seconds: float
    skew: ClockSkew
    in_flight: int = 0
    misconfigured: set[Endpoint] = field(default_factory=set)
    """Where Stripe refuses what we send, for a reason of ours."""
    _counted: Counter[tuple[Endpoint, str]] = field(default_factory=Counter)

    def totals(self) -> Sequence[EndpointHealth]:
        """What was counted since the process began, and how the circuits stand now."""
        return [
            EndpointHealth(
                endpoint=endpoint.value,
                circuit=self.circuit_breakers.state(endpoint).value,
                **{name: self._counted[endpoint, name] for name in ("sent", "calls", "failed")},
            )
            for endpoint in Endpoint
        ]

    async def make(
        self,
        endpoint: Endpoint,
        payment: Payment | None,
        timeout_seconds: float,
        method: str,
        path: str,
        *,
        priority: Priority = Priority.WRITE,
        idempotency_key: str | None = None,
        **params: Any,
    ) -> _Answer:
        """Stripe's answer as plain data, or what its absence means."""
        hit(FailPoint.GATEWAY_NOT_CALLED)
        call = _Call(
            endpoint=endpoint,
            payment=payment,
            priority=priority,
            deadline=asyncio.get_running_loop().time() + timeout_seconds,
            request=(method, path),
            params=params,
            idempotency_key=idempotency_key,
        )
        started, result = time.perf_counter(), "cancelled"
        self.in_flight += 1
        try:
            answer = await self._answer(call)
            result = _word(answer)
        except (CircuitOpenError, PermitDeniedError) as error:
            suspended = "suspended" if isinstance(error, CircuitOpenError) else ""
            answer = Unknown(cause=UnknownCause.BUSY, wait_seconds=error.wait_seconds, detail=suspended)
            result = suspended or answer.cause.value
        finally:
            self.in_flight -= 1
            self._counted[endpoint, "calls"] += 1
            self._counted[endpoint, "failed"] += result in _FAILED
            self.observer.on_gateway_call(endpoint.value, result, time.perf_counter() - started)
        return answer

    async def _answer(self, call: _Call) -> _Answer:
        """The last attempt's; CircuitOpenError and PermitDeniedError if there was none, or all exceeded a limit."""
        answer, goes_on = await self._try(call)
        was_unknown = False
        backoff = Backoff(first_seconds=self.backoff_seconds, longest_seconds=_LONGEST_BACKOFF_SECONDS)
        for _ in range(ATTEMPTS - 1):
            if not goes_on or (pause := backoff.next_seconds()) >= call.left:
                break
            await asyncio.sleep(pause)
            was_unknown |= isinstance(answer, Unknown) and answer.cause is not UnknownCause.BUSY
            try:
                answer, goes_on = await self._try(call)
            except (CircuitOpenError, PermitDeniedError):
                if isinstance(answer, Unknown) and answer.cause is UnknownCause.BUSY:
                    raise
                break  # an earlier attempt may have been executed
        if isinstance(answer, Refused) and was_unknown:
            answer = replace(answer, repeated=True)
        self._note_configuration(call, answer)
        if isinstance(answer, Refused | Unknown) and _word(answer) not in _LOUDER:
            of = "" if call.payment is None else f" of payment {call.payment.id}"
            extra = _fields(call, answer.detail)
            has_ended = call.endpoint is Endpoint.EXPIRE and isinstance(answer, Refused)  # which is nobody's fault
            level = logging.INFO if has_ended else logging.WARNING
            _log.log(level, "Stripe %s%s: %s", call.endpoint.value, of, _word(answer), extra=extra)
        return answer

    async def _try(self, call: _Call) -> tuple[_Answer, bool]:
        """What became of an attempt, and whether another one may end otherwise."""
        try:
            answer = await self._attempt(call)
        except (CircuitOpenError, PermitDeniedError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in the SDK is an outcome, and never a failure
            return self._meaning(error, call), may_pass(error)
        return answer if isinstance(answer.body, Mapping) else outcome_mapping.unreadable("not an object"), False

    def _meaning(self, error: Exception, call: _Call) -> Refused | Unknown:
        """What an attempt that raised means; a frozen end that has lapsed is no fault of our settings."""
        meaning = outcome_mapping.of_error(error)
        if isinstance(meaning, Refused):
            return replace(meaning, evidence=_evidence(call, header_of(error, "Request-Id")))
        if meaning.cause is not UnknownCause.MISCONFIGURED:
            return meaning
        if call.endpoint is Endpoint.EXPIRE:  # so it says that the session has ended
            return Refused(detail=meaning.detail)
        ends_at = call.params.get("expires_at")
        is_lapsed = isinstance(ends_at, int) and not self.skew.takes(ends_at)
        return replace(meaning, cause=UnknownCause.LAPSED) if is_lapsed else meaning

    def _note_configuration(self, call: _Call, answer: _Answer) -> None:
        """One line when Stripe begins to refuse what we send, and one when it takes it again."""
        name = call.endpoint.value
        if isinstance(answer, Unknown) and answer.cause is UnknownCause.MISCONFIGURED:
            if call.endpoint not in self.misconfigured:
                why, fields = answer.detail, _fields(call, answer.detail)
                _log.error(
                    "Stripe refuses %s for a reason of ours (%s): see its log of requests", name, why, extra=fields
                )
            self.misconfigured.add(call.endpoint)
        elif isinstance(answer, Answer | Refused) and call.endpoint in self.misconfigured:
            self.misconfigured.discard(call.endpoint)
            _log.info("Stripe takes what we send to %s again", name, extra=_fields(call, ""))

    async def _attempt(self, call: _Call) -> Answer:
        """What Stripe answers, if it is no error; others are raised. Whether its body is an object is not looked at."""
        self.circuit_breakers.check(call.endpoint)
        # A create's permit is reserved before its payment is inserted: this claims it.
        holder = None if call.payment is None else call.payment.booking_id
        async with self.limiter.permit(
            call.endpoint, priority=call.priority, holder=holder, seconds=call.left
        ) as permit:
            # After the wait for a permit, perhaps a long one, the circuit may be open.
            entry = self.circuit_breakers.enter(call.endpoint)
            verdict, detail = Verdict.NOTHING, ""
            fair = call.left >= FAIR_SECONDS
            permit.use()
            self._counted[call.endpoint, "sent"] += 1
            self.observer.on_gateway_attempt(call.endpoint.value)
            sent_at, began = self.skew.now(), time.perf_counter()
            try:
                with tracing.child(f"stripe {call.endpoint.value}", "client") as span:
                    answer, headers = await self._sent(call, span)
                verdict = Verdict.ANSWERS
                self.skew.note(str(headers.get("Date", "")), sent_at=sent_at)
            except Exception as error:
                self.skew.note(header_of(error, "Date"), sent_at=sent_at)
                verdict = verdict_of(error, fair=fair)
                detail = outcome_mapping.of_error(error).detail
                if is_limit(error):
                    reason = header_of(error, "Stripe-Rate-Limited-Reason")
                    self.limiter.throttle(call.endpoint, everything=reason.startswith("global"))
                raise
            finally:
                # A session that always fails must not stand for all of them.
                subject = None if call.payment is None else call.payment.reference
                change = self.circuit_breakers.leave(entry, verdict, subject=subject)
                if change is not None:
                    _report(change, call, detail)
                    if change is not CircuitChange.CLOSED:
                        self.observer.on_circuit_opened(call.endpoint.value)
        return Answer(
            body=answer,
            evidence={
                **_evidence(call, str(headers.get("Request-Id", ""))),
                "gateway_seconds": f"{time.perf_counter() - began:.3f}",
            },
        )

    async def _sent(self, call: _Call, span: tracing.Span) -> tuple[Any, Mapping[str, str]]:
        """What Stripe answers, noted in the span with the id by which its dashboard finds the request."""
        span.set({"http.request.method": call.request[0].upper(), "server.address": "api.stripe.com"})
        try:
            async with asyncio.timeout_at(call.deadline):
                answer, headers = await self.requests.send(
                    *call.request, call.params, idempotency_key=call.idempotency_key
                )
        except Exception as error:
            request_id = header_of(error, "Request-Id") or None
            span.set({"http.response.status_code": status_of(error) or None, "stripe.request_id": request_id})
            raise
        span.set({"http.response.status_code": 200, "stripe.request_id": headers.get("Request-Id") or None})
        return answer, headers


def _word(answer: _Answer) -> str:
    """How the call ended."""
    if isinstance(answer, Answer):
        return "answered"
    return answer.cause.value if isinstance(answer, Unknown) else "refused"


def _evidence(call: _Call, request_id: str) -> dict[str, str]:
    return {"gateway_call": call.endpoint.value, "gateway_request_id": request_id[:_LONGEST_ID]}


def _fields(call: _Call, detail: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"gateway_call": call.endpoint.value, "gateway_detail": detail}
    return fields if call.payment is None else fields | {"payment_id": call.payment.id}


def _report(change: CircuitChange, call: _Call, detail: str) -> None:
    """One line for each change of a circuit, and none for the calls that it spares."""
    name, fields = call.endpoint.value, _fields(call, detail)
    match change:
        case CircuitChange.DENIED:
            # An operator must act: a revoked key does not come back by itself, nor does a missing permission.
            _log.error("Stripe refuses STRIPE_API_KEY (%s): set one that it accepts, and restart", detail, extra=fields)
        case CircuitChange.OPENED:
            _log.warning("Stripe fails at %s again and again: it is tried once now and then", name, extra=fields)
        case CircuitChange.CLOSED:
            _log.info("Stripe answers %s again", name, extra=fields)
