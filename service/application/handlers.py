"""One function per message: the message first, what it needs by keyword. An error says how it is reported."""

from typing import Final

from contracts.commands import CreateCheckout, GetPaymentStatus, VerifyCheckout
from contracts.replies import CheckoutSession, StatusSource
from runtime import logs
from service.application import sentences, translation
from service.application.checkout import Checkout
from service.application.policy import Policy
from service.application.ports import Clock, CommandContext, Gateway, KeyScope, Relation, RequestKey, Store
from service.application.status_lookup import StatusLookup
from service.domain.errors import (
    AlreadyPaidError,
    CreateInProgressError,
    NeedsAttentionError,
    PaymentFailedError,
    PaymentNotFoundError,
    SupersededError,
)
from service.domain.payment import Payment, PaymentStatus, Request

_MAX_PASSES: Final = 4
"""Each pass ends a payment that was in the way. More than two means that several callers keep replacing each other."""


async def create_checkout(
    command: CreateCheckout,
    *,
    context: CommandContext,
    policy: Policy,
    gateway: Gateway,
    clock: Clock,
    checkout: Checkout,
) -> CheckoutSession:
    """Start a payment and answer its checkout session; a repeat answers the same session."""
    logs.bind(booking_id=command.booking_id)
    request = policy.requested(command, gateway=gateway, at=clock.now(), sent_at=context.sent_at)
    keys = _keys(request, context)
    for _ in range(_MAX_PASSES):
        begun = await checkout.begin(request, keys=keys, context=context)
        payment = begun.payment
        logs.bind(payment_id=payment.id)
        if payment.attention and payment.needs_person and payment.status is not PaymentStatus.COMPLETED:
            raise NeedsAttentionError(sentences.of_block(payment), payment=payment.ref)
        if begun.relation is Relation.OTHER and not payment.status.is_final:
            if payment.is_newer_than(request.sent_at):
                raise SupersededError(payment=payment.ref)
            await checkout.release(payment, context=context, replaced=not payment.seems_over(clock.now()))
        elif payment.session_id is not None and payment.seems_over(clock.now()):
            await checkout.release(payment, context=context)  # the next pass sees how it ended
        else:
            if payment.is_unopened:
                payment = await checkout.open(payment, context=context)
            if payment.status is not PaymentStatus.PENDING:
                raise _ended(payment)
            return translation.checkout_session(payment)
    raise CreateInProgressError(payment=payment.ref)


async def verify_checkout(
    command: VerifyCheckout, *, context: CommandContext, store: Store, status_lookup: StatusLookup
) -> translation.StateReply:
    """Ask the gateway how a checkout session stands; the last known status if it cannot be asked."""
    payment = await _find(command.session_id, store=store)
    if payment.status.is_final:
        return translation.state_reply(payment, StatusSource.GATEWAY)
    result = await status_lookup.look_up(payment, context=context)
    return translation.state_reply(result.payment, StatusSource.GATEWAY if result.answered else StatusSource.LOCAL)


async def get_payment_status(command: GetPaymentStatus, *, store: Store) -> translation.StateReply:
    """Read a payment's status from the database alone."""
    return translation.state_reply(await _find(command.transaction_id, store=store))


def _ended(payment: Payment) -> AlreadyPaidError | PaymentFailedError:
    """Why a payment that does not wait for its payer gets no checkout."""
    if payment.status is PaymentStatus.COMPLETED:
        return AlreadyPaidError(payment=payment.ref)
    return PaymentFailedError(sentences.of_repeat(payment), payment=payment.ref)


async def _find(session_id: str, *, store: Store) -> Payment:
    payment = await store.payment_of_session(session_id)
    if payment is None:
        raise PaymentNotFoundError
    logs.bind(payment_id=payment.id, booking_id=payment.booking_id)
    return payment


def _keys(request: Request, context: CommandContext) -> list[RequestKey]:
    """The message id makes a redelivery recognisable, the idempotency key a caller's own repeat."""
    fingerprint = request.sent or ""
    keys = [RequestKey(scope=KeyScope.MESSAGE, caller="", key=context.message_id, fingerprint=fingerprint)]
    if context.idempotency_key is not None:
        key = context.idempotency_key
        keys.append(RequestKey(scope=KeyScope.IDEMPOTENCY, caller=context.caller, key=key, fingerprint=fingerprint))
    return keys
