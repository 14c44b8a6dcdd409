"""The three consumers. Each reads its own queue on its own channel with its own prefetch, and calls its handler."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from faststream import AckPolicy
from faststream.message import StreamMessage
from faststream.rabbit import Channel, RabbitBroker

from contracts import body, topology
from contracts.body import Record
from contracts.commands import CommandType, CreateCheckout, GetPaymentStatus, VerifyCheckout
from contracts.replies import PaymentStatus
from service.application import handlers
from service.application.checkout import Checkout
from service.application.policy import Policy
from service.application.ports import Clock, CommandContext, Gateway, Store
from service.application.status_lookup import StatusLookup
from service.entrypoints.broker import exchange, queue
from service.entrypoints.middleware import Answer

CREATE_PREFETCH: Final = 1000
"""Creates in hand at once: all who wait must be, to keep their order and to hear when to come back. Few of them call
Stripe, which the rate limiter sees to, and one that waits takes a few KiB."""
VERIFY_PREFETCH: Final = 1000
"""Most cost no call to Stripe."""
STATUS_PREFETCH: Final = 40


def register(
    broker: RabbitBroker,
    *,
    store: Store,
    gateway: Gateway,
    policy: Policy,
    clock: Clock,
    checkout: Checkout,
    status_lookup: StatusLookup,
    create_prefetch: int = CREATE_PREFETCH,
) -> None:
    """Subscribe the handlers."""

    def context() -> CommandContext:
        """As `CommandMiddleware` has read it, of the delivery that is being handled."""
        found: CommandContext = broker.context.get_local("command_context")
        return found

    @broker.subscriber(**_subscription(CommandType.CREATE_CHECKOUT, CreateCheckout, create_prefetch))
    async def create_checkout(command: CreateCheckout) -> Answer:
        session = await handlers.create_checkout(
            command,
            context=context(),
            policy=policy,
            gateway=gateway,
            clock=clock,
            checkout=checkout,
        )
        return Answer(record=session)

    @broker.subscriber(**_subscription(CommandType.VERIFY_CHECKOUT, VerifyCheckout, VERIFY_PREFETCH))
    async def verify_checkout(command: VerifyCheckout) -> Answer:
        state, headers = await handlers.verify_checkout(
            command, context=context(), store=store, status_lookup=status_lookup
        )
        unsettled = state.payment_id if state.payment_status is PaymentStatus.PENDING else None
        return Answer(record=state, headers=headers, unsettled=unsettled)

    @broker.subscriber(**_subscription(CommandType.PAYMENT_STATUS, GetPaymentStatus, STATUS_PREFETCH))
    async def get_payment_status(command: GetPaymentStatus) -> Answer:
        state, headers = await handlers.get_payment_status(command, store=store)
        return Answer(record=state, headers=headers)


def _subscription(command: CommandType, model: type[Record], prefetch: int) -> dict[str, Any]:
    return {
        "queue": queue(topology.COMMAND_QUEUES[command]),
        "exchange": exchange(topology.COMMANDS),
        "channel": Channel(prefetch_count=prefetch),
        "ack_policy": AckPolicy.MANUAL,  # `CommandMiddleware` acknowledges
        "no_reply": True,  # and answers: FastStream's own reply would trust any `reply_to`
        "decoder": _decoder(model),
    }


def _decoder(model: type[Record]) -> Callable[[StreamMessage[Any]], Awaitable[Record]]:
    async def decode(message: StreamMessage[Any]) -> Record:
        return body.read(model, message.body)

    return decode
