"""Two ways to send a command over RabbitMQ, without REST, to copy. It needs Python 3.11 and aio-pika.

export AMQP_URL=amqp://user:password@host:5672/%2F
python commander.py create 4711 7 449.97   # send and forget; the outcome is an event
python commander.py status cs_test_...     # ask and wait for the reply
"""

import argparse
import asyncio
import json
import os
import time
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

COMMANDS: Final = "payments.commands"
EVENTS: Final = "payments.events"
DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"
PATIENCE_SECONDS: Final = 10.0
OUTCOME_SECONDS: Final = 60.0
AMQP_URL: Final = os.environ["AMQP_URL"]


def command(kind: str, body: dict[str, Any], message_id: str, **more: Any) -> aio_pika.Message:
    """A command with every property that it must have."""
    return aio_pika.Message(
        json.dumps(body).encode(),
        content_type="application/json",
        type=kind,
        message_id=message_id,
        correlation_id=message_id,
        timestamp=int(time.time()),
        user_id=unquote(urlsplit(AMQP_URL).username or ""),  # RabbitMQ takes no other name than the connection's
        **more,
    )


async def send(channel: AbstractChannel, message: aio_pika.Message) -> None:
    """Publish a command; returns when RabbitMQ has confirmed it.

    Raises:
        aio_pika.exceptions.PublishError: No queue takes it: the payment service was never started here.
    """
    exchange = await channel.get_exchange(COMMANDS, ensure=False)
    await exchange.publish(message, routing_key=message.type or "", mandatory=True, timeout=PATIENCE_SECONDS)


async def create(channel: AbstractChannel, body: dict[str, Any]) -> dict[str, Any]:
    """Send a create without a reply address, and wait for the event with its outcome.

    Raises:
        TimeoutError: No event in a minute: it is still to come, or came long ago (a repeated command makes no second
            one), or the command was dead-lettered, of which its sender is not notified.
    """
    # Subscribe first. A service has a durable queue for that, as in subscriber.py; this one ends with the connection.
    queue = await channel.declare_queue(f"my-service.outcome.{uuid4()}", exclusive=True)
    await queue.bind(EVENTS, routing_key="payment.*")
    # The message id is the idempotency key: sent again, after any failure, it means the same payment. So store it with
    # your booking and never make a new one for a repeat. The 1 counts what you want paid: another amount would be 2.
    message_id = f"my-service:booking:{body['bookingId']}:1"
    persistent = aio_pika.DeliveryMode.PERSISTENT
    await send(channel, command("checkout.create", body, message_id, delivery_mode=persistent))
    async with asyncio.timeout(OUTCOME_SECONDS), queue.iterator(no_ack=True) as messages:
        async for message in messages:
            data: dict[str, Any] = json.loads(message.body)["data"]
            if data["bookingId"] == body["bookingId"]:
                return data
    raise ConnectionError("RabbitMQ has ended the subscription")


async def ask(channel: AbstractChannel, kind: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Send a command and wait for its answer: its type (`fault`, or the command's with `.reply`), and its body.

    Raises:
        TimeoutError: No answer in time. A status or a verify is asked again; a create is repeated, which is safe.
    """
    answer: asyncio.Future[AbstractIncomingMessage] = asyncio.get_running_loop().create_future()
    message_id = str(uuid4())

    async def receive(message: AbstractIncomingMessage) -> None:
        if message.correlation_id == message_id and not answer.done():
            answer.set_result(message)

    # Direct reply-to: no queue of our own, on the channel that sends. A service consumes once and asks many times.
    replies = await channel.get_queue(DIRECT_REPLY_TO, ensure=False)
    consumer = await replies.consume(receive, no_ack=True)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            # `timestamp` and `expiration` (in seconds here) are the deadline: after it the command is not executed.
            question = command(kind, body, message_id, reply_to=DIRECT_REPLY_TO, expiration=PATIENCE_SECONDS)
            await send(channel, question)
            message = await answer
    finally:
        await replies.cancel(consumer)
    return message.type or "", json.loads(message.body)


async def main() -> None:
    """Do what the command line says and print the outcome."""
    parser = argparse.ArgumentParser(description="Sends a command to the payment service over RabbitMQ.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    creating = kinds.add_parser("create")
    creating.add_argument("booking_id", type=int)
    creating.add_argument("user_id", type=int)
    creating.add_argument("amount")
    kinds.add_parser("verify").add_argument("transaction_id")
    kinds.add_parser("status").add_argument("transaction_id")
    chosen = parser.parse_args()
    connection = await aio_pika.connect(AMQP_URL, timeout=PATIENCE_SECONDS)
    async with connection, connection.channel() as channel:
        if chosen.kind == "create":
            body = {"bookingId": chosen.booking_id, "userId": chosen.user_id, "amount": chosen.amount}
            data = await create(channel, body)
            print(data["status"], data["reason"] or data["paymentUrl"])
        elif chosen.kind == "verify":
            print(*await ask(channel, "checkout.verify", {"sessionId": chosen.transaction_id}))
        else:
            print(*await ask(channel, "payment.status", {"transactionId": chosen.transaction_id}))


if __name__ == "__main__":
    asyncio.run(main())
