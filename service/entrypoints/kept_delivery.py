"""A delivery whose reply or copy cannot be published is kept until it can, and is not given back to RabbitMQ.

Up to RabbitMQ 4.2 what is given back uses up the delivery limit: an alarm of a few minutes would dead-letter commands
that are done. Keeping a delivery costs its place among those that are in hand, and so no further commands are taken.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aio_pika import IncomingMessage

from runtime.aio import Backoff, wait_or_timeout
from service.application.ports import BrokerFailedError, BrokerLostError, UnpublishedError
from service.entrypoints.broker import UNREACHABLE

KEEP_SECONDS: Final = 20 * 60.0
"""Less than RabbitMQ's consumer timeout (30 min), which takes away all deliveries of a channel."""
REFUSED_SECONDS: Final = 5.0
"""For what RabbitMQ refuses: a reply queue that is full must not take the places of other commands."""
MAX_FAILURES: Final = 3
"""After so many the message itself is at fault: one that was beside it is unlikely to be so again after its pause."""
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0


class UnpublishableError(UnpublishedError):
    """RabbitMQ ends the connection for this message, and would again: it must not be tried any more."""


async def published(
    message: IncomingMessage, publish: Callable[[], Awaitable[None]], *, leaving: asyncio.Event
) -> None:
    """Publish, again and again while the delivery is ours and until the process is `leaving`.

    Raises:
        UnpublishableError: RabbitMQ fails at the message.
        UnpublishedError: the last one; the delivery is to be given back.
    """
    loop, backoff = (
        asyncio.get_running_loop(),
        Backoff(first_seconds=_FIRST_PAUSE_SECONDS, longest_seconds=_LONGEST_PAUSE_SECONDS),
    )
    started, failures = loop.time(), 0
    while True:
        try:
            return await publish()
        except UnpublishedError as error:
            failures += isinstance(error, BrokerFailedError)
            if failures == MAX_FAILURES:
                raise UnpublishableError(str(error)) from error
            seconds = KEEP_SECONDS if isinstance(error, BrokerLostError) else REFUSED_SECONDS
            if leaving.is_set() or not _is_ours(message) or loop.time() > started + seconds:
                raise
        await wait_or_timeout(leaving, backoff.next_seconds())


def _is_ours(message: IncomingMessage) -> bool:
    """Whether the delivery can still be acknowledged: RabbitMQ takes it back when its channel ends."""
    try:
        return not message.channel.is_closed
    except UNREACHABLE:
        return False
