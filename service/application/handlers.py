"""One function per message: the message first, what it needs by keyword. Errors themselves say how they are told."""

import hashlib
from typing import Final

from contracts import logs
from contracts.commands import CreateCheckout, GetPaymentStatus, VerifyCheckout
from contracts.replies import CheckoutSession, PaymentState, StatusSource
from service.application import translation
from service.application.ports import CommandContext, KeyScope, Relation, RequestKey, Store
from service.application.steps import Steps
from service.domain.errors import (
    AlreadyPaidError,
    CreateInProgressError,
    PaymentFailedError,
    PaymentNotFoundError,
)
from service.domain.payment import Draft, FailureReason, Payment, PaymentStatus

_MAX_ROUNDS: Final = 4
"""Each round ends a payment that was in the way. More than two means that several callers keep replacing each other."""


async def create_checkout(command: CreateCheckout, *, context: CommandContext, steps: Steps) -> CheckoutSession:
    """Start a payment and answer its checkout session; a repeat answers the same session.

    Raises:
        InvalidRequestError, AlreadyPaidError, PaymentFailedError, CreateInProgressError, IdempotencyKeyReusedError,
        MessageIdReusedError, OutcomeUnknownError, GatewayFailedError, GatewayBusyError, StoreUnavailableError
    """
    logs.bind(booking_id=command.booking_id)
    draft = steps.policy.draft(command, gateway=steps.gateway, at=steps.clock.now())
    keys = _keys(command, draft, context)
    for _ in range(_MAX_ROUNDS):
        begun = await steps.begin(draft, keys=keys, context=context)
        payment = begun.payment
        logs.bind(payment_id=payment.id)
        if begun.relation is Relation.OTHER and not payment.status.is_final:
            await steps.release(payment, context=context)
        elif payment.session_id is not None and payment.seems_over(steps.clock.now()):
            await steps.ask(payment, context=context)  # the next round sees
        else:
            payment = await _opened(payment, context=context, steps=steps)
            return translation.checkout_session(payment, pay_until=steps.policy.pay_until(payment))
    raise CreateInProgressError(payment=payment)


async def verify_checkout(
    command: VerifyCheckout, *, context: CommandContext, steps: Steps
) -> tuple[PaymentState, StatusSource]:
    """Ask the gateway how a checkout session stands; the last known status if it cannot be asked.

    Raises:
        PaymentNotFoundError, OutcomeUnknownError, StoreUnavailableError
    """
    payment = await _find(command.session_id, store=steps.store)
    if payment.status.is_final:
        return translation.payment_state(payment), StatusSource.GATEWAY
    asked = await steps.ask(payment, context=context)
    state = translation.payment_state(asked.payment, gateway_answered=asked.answered)
    return state, StatusSource.GATEWAY if asked.answered else StatusSource.LOCAL


async def get_payment_status(command: GetPaymentStatus, *, store: Store) -> PaymentState:
    """Read a payment's status from the database alone.

    Raises:
        PaymentNotFoundError, StoreUnavailableError
    """
    return translation.payment_state(await _find(command.transaction_id, store=store))


async def _opened(payment: Payment, *, context: CommandContext, steps: Steps) -> Payment:
    """The payment with an open session."""
    if payment.status is PaymentStatus.PENDING and payment.session_id is None:
        payment = await steps.open(payment, context=context)
    if payment.status is PaymentStatus.COMPLETED:
        raise AlreadyPaidError(payment=payment)
    if payment.status is PaymentStatus.FAILED:
        raise PaymentFailedError(_failure(payment), payment=payment)
    return payment


def _failure(payment: Payment) -> str | None:
    ended = payment.reason == FailureReason.EXPIRED
    return "The checkout of this request has ended. Please start a new one." if ended else None


async def _find(session_id: str, *, store: Store) -> Payment:
    payment = await store.payment_of_session(session_id)
    if payment is None:
        raise PaymentNotFoundError
    logs.bind(payment_id=payment.id, booking_id=payment.booking_id)
    return payment


def _keys(command: CreateCheckout, draft: Draft, context: CommandContext) -> list[RequestKey]:
    """The message id makes a redelivery recognisable, the idempotency key a caller's own repeat."""
    content = (draft.booking_id, draft.user_id, draft.money, command.success_url, command.cancel_url)
    fingerprint = hashlib.sha256(repr(content).encode()).hexdigest()
    keys = [RequestKey(scope=KeyScope.MESSAGE, caller="", key=context.message_id, fingerprint=fingerprint)]
    if context.idempotency_key is not None:
        key = context.idempotency_key
        keys.append(RequestKey(scope=KeyScope.IDEMPOTENCY, caller=context.caller, key=key, fingerprint=fingerprint))
    return keys
