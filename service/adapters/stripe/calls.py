"""A call to Stripe: its circuit, its turn, the attempt, and what can pass is tried again within the deadline."""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import stripe

from service.adapters.stripe import outcomes
from service.application.breaker import Change, CircuitOpenError, Circuits, Verdict
from service.application.budget import Budget, Endpoint, NoTurnError, Priority, Turn
from service.domain.outcomes import Refused, Unknown, UnknownCause
from service.domain.payment import Payment
from service.failpoints import FailPoint, hit

_log = logging.getLogger(__name__)

ATTEMPTS: Final = 3
BACKOFF_SECONDS: Final = 0.5
"""The longest pause before the second attempt; it doubles with each one. "Full jitter": any part of it will do."""
FAIR_SECONDS: Final = 1.0
"""An attempt that was given less, and did not end in that time, says nothing of Stripe."""


_Answer = Mapping[str, Any] | Refused | Unknown


@dataclass(frozen=True, kw_only=True)
class _Call:
    """What all attempts of a call have in common. `deadline`: in the event loop's time."""

    endpoint: Endpoint
    payment: Payment | None
    priority: Priority
    deadline: float
    request: tuple[str, str]
    params: Mapping[str, Any]

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - asyncio.get_running_loop().time()


@dataclass(kw_only=True, eq=False)
class Calls:
    """Makes the calls; one per process.

    `told` hears of each: its endpoint, `answered`, `refused`, why the outcome is not known (`suspended`: the circuit is
    open, nothing was sent) and its seconds. `attempts` counts what was sent.
    """

    client: stripe.StripeClient
    budget: Budget
    circuits: Circuits
    told: Callable[[str, str, float], None]
    backoff_seconds: float = BACKOFF_SECONDS
    in_flight: int = 0
    attempts: Counter[Endpoint] = field(default_factory=Counter)

    async def make(
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
    ) -> _Answer:
        """Stripe's answer as plain data, or what its absence means. `turn`: the caller's, for the first attempt."""
        hit(FailPoint.GATEWAY_NOT_CALLED)
        call = _Call(
            endpoint=endpoint,
            payment=payment,
            priority=priority,
            deadline=asyncio.get_running_loop().time() + timeout_seconds,
            request=(method, path),
            params=params,
        )
        started, result = time.perf_counter(), "cancelled"
        self.in_flight += 1
        try:
            answer = await self._answer(call, turn)
            result = _word(answer)
        except (CircuitOpenError, NoTurnError) as error:
            answer = Unknown(cause=UnknownCause.BUSY, wait_seconds=error.wait_seconds)
            result = "suspended" if isinstance(error, CircuitOpenError) else answer.cause.value
        finally:
            self.in_flight -= 1
            self.told(endpoint.value, result, time.perf_counter() - started)
        return answer

    async def _answer(self, call: _Call, turn: Turn | None) -> _Answer:
        """The last attempt's; CircuitOpenError and NoTurnError if there was none, or all were refused as too many."""
        answer, may_pass = await self._try(call, turn)
        pause = self.backoff_seconds
        for _ in range(ATTEMPTS - 1):
            seconds = random.uniform(0, pause)  # noqa: S311 - jitter needs no secrecy
            if not may_pass or seconds >= call.left:
                break
            await asyncio.sleep(seconds)
            pause *= 2
            try:
                answer, may_pass = await self._try(call, turn)
            except (CircuitOpenError, NoTurnError):
                if isinstance(answer, Unknown) and answer.cause is UnknownCause.BUSY:
                    raise
                break  # an earlier attempt may have been executed
        if isinstance(answer, Refused | Unknown) and _word(answer) != UnknownCause.DENIED:  # `_tell` is louder
            of = "" if call.payment is None else f" of payment {call.payment.id}"
            extra = _fields(call, answer.detail)
            _log.warning("Stripe %s%s: %s", call.endpoint.value, of, _word(answer), extra=extra)
        return answer

    async def _try(self, call: _Call, turn: Turn | None) -> tuple[_Answer, bool]:
        """What became of an attempt, and whether another one may end otherwise."""
        try:
            answer = await self._attempt(call, turn)
        except (CircuitOpenError, NoTurnError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in the SDK is an outcome, and never a failure
            return outcomes.of_error(error), _may_pass(error)
        return answer if isinstance(answer, Mapping) else outcomes.unreadable("not an object"), False

    async def _attempt(self, call: _Call, turn: Turn | None) -> Any:
        """What Stripe answers, if it is no error; others are raised."""
        self.circuits.check(call.endpoint)
        async with self._turn(call, turn) as own:
            # After the wait for a turn, perhaps a long one, it may be open.
            permit = self.circuits.enter(call.endpoint)
            verdict, detail = Verdict.NOTHING, ""
            fair = call.left >= FAIR_SECONDS
            own.used = True
            self.attempts[call.endpoint] += 1
            try:
                # The SDK's raw request has all of its errors, but does not build a tree of objects from an answer of
                # which we read five members: that was a quarter of the service's work.
                async with asyncio.timeout_at(call.deadline):
                    answer = (await self.client.raw_request_async(*call.request, **call.params)).data
                verdict = Verdict.ANSWERS
            except Exception as error:
                verdict = _verdict(error, fair=fair)
                detail = outcomes.of_error(error).detail
                if _is_limit(error):
                    reason = _header(error, "Stripe-Rate-Limited-Reason")
                    self.budget.slow(call.endpoint, everything=reason.startswith("global"))
                raise
            finally:
                own.release()
                # A session that always fails must not stand for all of them.
                subject = None if call.payment is None else call.payment.reference
                change = self.circuits.leave(permit, verdict, subject=subject)
                if change is not None:
                    _tell(change, call, detail)
        return answer

    @contextlib.asynccontextmanager
    async def _turn(self, call: _Call, turn: Turn | None) -> AsyncGenerator[Turn]:
        """The caller's if it is unused, otherwise the next that comes."""
        if turn is not None and not turn.used:
            yield turn
            return
        async with contextlib.AsyncExitStack() as held:
            async with asyncio.timeout_at(call.deadline):
                own = await held.enter_async_context(
                    self.budget.turn(call.endpoint, priority=call.priority, seconds=call.left)
                )
            yield own


def _word(answer: _Answer) -> str:
    """How the call ended."""
    if isinstance(answer, Mapping):
        return "answered"
    return answer.cause.value if isinstance(answer, Unknown) else answer.kind.value


def _verdict(error: Exception, *, fair: bool) -> Verdict:
    """What an attempt that raised says of Stripe."""
    if isinstance(error, TimeoutError):
        return Verdict.FAILS if fair else Verdict.NOTHING
    if isinstance(error, stripe.AuthenticationError):
        return Verdict.DENIES_ALL
    if isinstance(error, stripe.PermissionError):
        return Verdict.DENIES
    if _is_transport(error):
        return Verdict.FAILS
    status = _status(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Verdict.NOTHING if _is_replayed(error) else Verdict.FAILS
    # Limits are the budget's business; an answer that makes no sense (200, or a proxy's page) is no sign of health.
    return Verdict.ANSWERS if status >= HTTPStatus.BAD_REQUEST and not _is_limit(error) else Verdict.NOTHING


def _may_pass(error: Exception) -> bool:
    """Whether another attempt under the same key may end otherwise."""
    if isinstance(error, TimeoutError) or _is_transport(error):
        return True
    advice = _header(error, "Stripe-Should-Retry")
    if advice == "true":
        return True
    # Stripe says "false" of a limit because an SDK would not wait for a turn; we do, and at a lower pace.
    if _is_limit(error):
        return True
    status = _status(error)
    is_passing = status == HTTPStatus.CONFLICT or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return is_passing and advice != "false" and not _is_replayed(error)


def _is_transport(error: Exception) -> bool:
    # The SDK lets aiohttp's body-read failures through.
    return isinstance(error, stripe.APIConnectionError | aiohttp.ClientError | OSError)


def _is_limit(error: Exception) -> bool:
    """Too many calls, or another call holds the object's lock."""
    return isinstance(error, stripe.RateLimitError) or _status(error) == HTTPStatus.TOO_MANY_REQUESTS


def _is_replayed(error: Exception) -> bool:
    """Whether this is the answer that is kept under the key: old news, and it stays."""
    return _header(error, "Idempotent-Replayed") == "true"


def _status(error: Exception) -> int:
    return (error.http_status or 0) if isinstance(error, stripe.StripeError) else 0


def _header(error: Exception, name: str) -> str:
    headers = error.headers if isinstance(error, stripe.StripeError) else None
    return str((headers or {}).get(name, ""))


def _fields(call: _Call, detail: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"gateway_call": call.endpoint.value, "gateway_detail": detail}
    return fields if call.payment is None else fields | {"payment_id": call.payment.id}


def _tell(change: Change, call: _Call, detail: str) -> None:
    """One line for each change of a circuit, and none for the calls that it spares."""
    name, fields = call.endpoint.value, _fields(call, detail)
    match change:
        case Change.DENIED:
            # An operator must act: a revoked key does not come back by itself, nor does a missing permission.
            _log.error("Stripe refuses STRIPE_API_KEY (%s): set one that it accepts, and restart", detail, extra=fields)
        case Change.OPENED:
            _log.warning("Stripe fails at %s again and again: it is tried once now and then", name, extra=fields)
        case Change.CLOSED:
            _log.info("Stripe answers %s again", name, extra=fields)
