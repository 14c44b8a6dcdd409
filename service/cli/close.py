"""`payment-service close`: an operator ends a payment that cannot end by itself."""

import argparse
import json
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final
from uuid import uuid4

from runtime.health import Build
from service import pinning
from service.adapters.postgres import Database, DatabaseClock, PostgresSearch, PostgresStore, revision_problem
from service.adapters.stripe import StripeGateway
from service.application.closing import Closed, CloseRefusedError, Closing
from service.application.outcome_writer import OutcomeWriter
from service.application.ports import CommandContext
from service.cli.actor import os_user
from service.cli.show import NOT_FOUND, find_payments
from service.domain.errors import ConcurrentChangeError, IllegalTransitionError
from service.domain.payment import FailureReason, LastOutcome, Payment, PaymentStatus
from service.metrics import Metrics
from service.ratelimit.limiter import RateLimiter
from service.settings import STRIPE_API_BASE, GatewaySettings
from service.startup import GATEWAY_TIMEOUT_SECONDS

_AT_STRIPE: Final[dict[str, str]] = {
    LastOutcome.EXPIRED: "Its checkout can no longer be paid.",
    LastOutcome.PROCESSING: "Stripe still says that it is processing: money that arrives raises attention again.",
    LastOutcome.NO_SESSION: "Stripe does not know its checkout, which was therefore not ended there.",
}


def needs(_: argparse.Namespace) -> type[GatewaySettings]:
    """Its settings."""
    return GatewaySettings


async def run(arguments: argparse.Namespace, settings: GatewaySettings) -> int:
    """Close the payment; 0 if it is closed or was before, 1 if it is not there or is not closed."""
    context = CommandContext(message_id="", request_id=f"operator-{uuid4()}")
    by = arguments.by or os_user()
    try:
        async with _closing(settings) as (store, search, closing):
            payment = _one(arguments.id, await find_payments(store, arguments.id, search))
            closed = await closing.close(payment, by=by, why=arguments.reason, context=context)
            journal = await store.journal(closed.payment.id)
    except CloseRefusedError as error:
        _say({"result": "refused", "message": str(error)}, as_json=arguments.json, out=sys.stderr)
        return 1
    except (ConcurrentChangeError, IllegalTransitionError):
        message = "The payment was changed meanwhile, or Stripe contradicts it: look at it, then repeat the command."
        _say({"result": "refused", "message": message}, as_json=arguments.json, out=sys.stderr)
        return 1
    done = next((entry for entry in reversed(journal) if "why" in entry.detail), None)
    _say(_result(closed, {} if done is None else {**done.detail, "at": done.at.isoformat()}), as_json=arguments.json)
    return 0


@asynccontextmanager
async def _closing(settings: GatewaySettings) -> AsyncGenerator[tuple[PostgresStore, PostgresSearch, Closing]]:
    async with AsyncExitStack() as stack:
        database = Database(settings.database_url.get_secret_value())
        stack.push_async_callback(database.close)
        if await revision_problem(database) is not None:
            raise CloseRefusedError("The database is not at the revision of this version: run payment-service migrate.")
        if (problem := await pinning.problem_of(database, *await pinning.account_of(settings))) is not None:
            raise CloseRefusedError(problem)
        observer, clock = Metrics(Build.installed("payment-service", commit=None)), DatabaseClock(database)
        await clock.measure()
        # Two calls or three.
        limiter = RateLimiter(concurrency=1, rates=None, quota_store=None, observer=observer, now=clock.now)
        stack.push_async_callback(limiter.close)
        gateway = StripeGateway(
            api_key=settings.stripe_api_key.get_secret_value(),
            api_base=None if settings.stripe_api_base == STRIPE_API_BASE else settings.stripe_api_base,
            concurrency=1,
            limiter=limiter,
            observer=observer,
            now=clock.now,
        )
        stack.push_async_callback(gateway.close)
        store = PostgresStore(database)
        yield (
            store,
            PostgresSearch(database),
            Closing(
                store=store,
                gateway=gateway,
                outcomes=OutcomeWriter(store=store, clock=clock),
                clock=clock,
                timeout_seconds=GATEWAY_TIMEOUT_SECONDS,
            ),
        )


def _one(wanted: str, payments: Sequence[Payment]) -> Payment:
    """The one payment that is meant: of a booking's, the one that is not done with."""
    undone = [each for each in payments if not each.status.is_final or each.open_attention is not None]
    if len(undone) > 1:
        named = ", ".join(f"{each.id} ({each.status}, {each.open_attention or 'no attention'})" for each in undone)
        raise CloseRefusedError(f"{wanted} has several payments to decide about: {named}. Name one.")
    if not payments:
        raise CloseRefusedError(NOT_FOUND)
    return undone[0] if undone else payments[-1]


def _result(closed: Closed, done: dict[str, Any]) -> dict[str, Any]:
    payment = closed.payment
    status = payment.status if payment.reason is None else f"{payment.status} ({payment.reason})"
    if closed.is_news:
        free = "" if payment.status is PaymentStatus.COMPLETED else " Its booking is free."
        at_stripe = _AT_STRIPE.get(payment.last_outcome or "", "")
        is_ended = payment.reason == FailureReason.CLOSED and at_stripe
        message = f"Payment {payment.id} is closed: {status}.{free}{' ' + at_stripe if is_ended else ''}"
    elif payment.closed_at is not None:
        message = f"Payment {payment.id} was closed before, by {done['by']} ({done['why']}): {status}."
    else:
        message = f"Payment {payment.id} had ended before: {status}. There is nothing to close."
    return {
        "result": "closed" if closed.is_news else "closed before" if payment.closed_at else "ended before",
        "paymentId": payment.id,
        "bookingId": payment.booking_id,
        "transactionId": payment.session_id,
        "status": payment.status.value,
        "reason": payment.reason,
        "attention": payment.attention,
        "by": done.get("by"),
        "why": done.get("why"),
        "at": done.get("at"),
        "message": message,
    }


def _say(result: dict[str, Any], *, as_json: bool, out: Any = None) -> None:
    text = json.dumps(result) if as_json else result["message"]
    (sys.stdout if as_json or out is None else out).write(f"{text}\n")
