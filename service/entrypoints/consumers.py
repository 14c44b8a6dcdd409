"""The three consumers. Each reads its own queue on its own channel with its own prefetch, and calls its handler."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from faststream import AckPolicy
from faststream.message import StreamMessage
from faststream.rabbit import Channel, RabbitBroker

from contracts import body, envelope, topology
from contracts.body import Record
from contracts.commands import CommandType, CreateCheckout, GetPaymentStatus, VerifyCheckout
from service.application import handlers
from service.application.ports import CommandContext
from service.application.steps import Steps
from service.entrypoints.broker import exchange, queue
from service.entrypoints.delivery import Answer

CREATE_PREFETCH: Final = 1000
"""Creates that are looked at at once: all who wait have to be in sight, to stand in order and hear when to come back.
Few of them call Stripe, which is the budget's business, and one that waits takes a few KiB."""
VERIFY_PREFETCH: Final = 1000
"""Most cost no call to Stripe."""
STATUS_PREFETCH: Final = 40

AnyCommand = TypeVar("AnyCommand", bound=Record)


def register(broker: RabbitBroker, *, steps: Steps, create_prefetch: int = CREATE_PREFETCH) -> None:
    """Subscribe the handlers."""

    def context() -> CommandContext:
        """As `Delivery` has read it, of the delivery that is being handled."""
        found: CommandContext = broker.context.get_local("command_context")
        return found

    @broker.subscriber(**_subscription(CommandType.CREATE_CHECKOUT, CreateCheckout, create_prefetch))
    async def create_checkout(command: CreateCheckout) -> Answer:
        return Answer(record=await handlers.create_checkout(command, context=context(), steps=steps))

    @broker.subscriber(**_subscription(CommandType.VERIFY_CHECKOUT, VerifyCheckout, VERIFY_PREFETCH))
    async def verify_checkout(command: VerifyCheckout) -> Answer:
        state, source = await handlers.verify_checkout(command, context=context(), steps=steps)
        return Answer(record=state, headers={envelope.STATUS_SOURCE: source.value})

    @broker.subscriber(**_subscription(CommandType.PAYMENT_STATUS, GetPaymentStatus, STATUS_PREFETCH))
    async def get_payment_status(command: GetPaymentStatus) -> Answer:
        return Answer(record=await handlers.get_payment_status(command, store=steps.store))


def _subscription(command: CommandType, model: type[Record], prefetch: int) -> dict[str, Any]:
    return {
        "queue": queue(topology.COMMAND_QUEUES[command]),
        "exchange": exchange(topology.COMMANDS),
        "channel": Channel(prefetch_count=prefetch),
        "ack_policy": AckPolicy.MANUAL,  # `Delivery` acknowledges
        "no_reply": True,  # and answers: FastStream's own reply would trust any `reply_to`
        "decoder": _decoder(model),
    }


def _decoder(model: type[AnyCommand]) -> Callable[[StreamMessage[Any]], Awaitable[AnyCommand]]:
    async def decode(message: StreamMessage[Any]) -> AnyCommand:
        return body.read(model, message.body)

    return decode
