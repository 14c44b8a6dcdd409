"""What surrounds every handler: the envelope, the answer, and what becomes of a failure.

| How it ended | with a reply address | fire-and-forget |
|---|---|---|
| done | reply | (the outcome is an event) |
| cannot be understood | parked, and a fault | parked |
| deadline passed | parked | parked |
| permanent failure | fault | parked |
| passing failure, or not done in 12 s | fault | again after a growing delay; parked after the last |
| no database | fault | again after a growing delay of at most 30 s, for as long as it takes |

The acknowledgement always comes last. If the service dies or the broker fails before it, the command comes again, and
every handler is safe to repeat.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aio_pika import IncomingMessage
from faststream import BaseMiddleware
from faststream.message import StreamMessage

from contracts import body, envelope, topology
from contracts.body import InvalidBodyError, Record
from contracts.commands import CommandType
from contracts.faults import DeadLetterReason, Fault, FaultCode
from service.application import translation
from service.application.ports import Clock
from service.domain.errors import MessageIdReusedError, OutcomeUnknownError, PaymentServiceError
from service.entrypoints import envelopes
from service.entrypoints.broker import Publisher, UnpublishedError
from service.entrypoints.envelopes import Envelope, RejectedCommandError
from service.failpoints import FailPoint, hit

_log = logging.getLogger(__name__)

_COMMAND_OF_QUEUE: Final = {queue.name: command for command, queue in topology.COMMAND_QUEUES.items()}
_REQUEUE_PAUSE_SECONDS: Final = 1.0
AWAY_DELAYS: Final = 3
"""While the database is away no delay grows beyond the third, 30 s: when it is back a backlog is soon done."""
HANDLER_SECONDS: Final = 12.0
"""How long a handler may take, whatever hangs: above the gateway's timeout, and below GRACE_SECONDS and RabbitMQ's
consumer timeout, which would end the channel with all that is under way there."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a consumer returns: the reply, and headers for its message."""

    record: Record
    headers: dict[str, str] = field(default_factory=dict)


class Delivery(BaseMiddleware):
    """One delivery of one command."""

    def __init__(
        self, msg: Any, /, *, context: Any, publisher: Publisher, clock: Clock, handler_seconds: float = HANDLER_SECONDS
    ) -> None:
        super().__init__(msg, context=context)
        self._publisher = publisher
        self._clock = clock
        self._handler_seconds = handler_seconds

    async def consume_scope(
        self, call_next: Callable[[Any], Awaitable[Any]], msg: StreamMessage[IncomingMessage]
    ) -> None:
        """Handle, answer, acknowledge."""
        message = msg.raw_message
        queue = self.context.get_local("handler_").queue.name
        started = time.perf_counter()
        try:
            ended = await self._handle(call_next, msg, message, _COMMAND_OF_QUEUE[queue])
            hit(FailPoint.NOT_ACKED)
            await message.ack()
        except UnpublishedError as error:
            _log.warning("a %s could not be answered or parked (%s); it comes again", queue, error)
            await asyncio.sleep(_REQUEUE_PAUSE_SECONDS)
            await message.nack(requeue=True)
        else:
            fields = {"queue": queue, "ended": ended, "message_id": _loggable(msg.message_id)}
            fields["request_id"] = _loggable(message.headers.get(envelope.REQUEST_ID))
            fields["duration_ms"] = f"{(time.perf_counter() - started) * 1000:.1f}"
            _log.info("%s: %s", queue, ended, extra=fields)

    async def _handle(
        self, call_next: Callable[[Any], Awaitable[Any]], msg: Any, message: IncomingMessage, command: CommandType
    ) -> str:
        """How it ended, in a word for the log."""
        try:
            read = envelopes.read(message, expected=command, now=self._clock.now())
        except RejectedCommandError as rejected:
            return await self._park_rejected(message, command, rejected.reason, rejected.text)
        try:
            with self.context.scope("command_context", read.context):
                answer = await self._in_time(call_next, msg, command)
        except InvalidBodyError as error:
            return await self._park_rejected(message, command, DeadLetterReason.INVALID, str(error))
        except MessageIdReusedError as error:
            return await self._park_rejected(message, command, DeadLetterReason.ID_CONFLICT, error.message)
        except PaymentServiceError as error:
            return await self._fail(message, command, read, error)
        except Exception:  # noqa: BLE001 - a mistake of ours must still be answered or tried again, not lost
            _log.exception("%s failed", command, extra={"request_id": read.context.request_id})
            return await self._fail(message, command, read, PaymentServiceError())
        hit(FailPoint.NOT_REPLIED)
        if read.reply_to is not None:
            await self._answer(message, answer.record, envelope.reply_type(command), read, answer.headers)
        return "done"

    async def _in_time(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any, command: CommandType) -> Answer:
        """What the handler answers. If it hangs it is cut off, so that its slot is free: it is safe to repeat."""
        deadline = asyncio.timeout(self._handler_seconds)
        try:
            async with deadline:
                answer: Answer = await call_next(msg)
                return answer
        except TimeoutError:
            if not deadline.expired():
                raise
            _log.error("a %s was cut off after %g s", command, self._handler_seconds)
            raise OutcomeUnknownError from None

    async def _park_rejected(
        self, message: IncomingMessage, command: CommandType, reason: DeadLetterReason, text: str
    ) -> str:
        """What cannot be understood is parked once; its sender is told if that is possible (and it still waits)."""
        await self._park(message, command, reason, {envelope.REASON_TEXT: text})
        if reason is not DeadLetterReason.EXPIRED and envelopes.usable_reply_to(message):
            fault = Fault(code=FaultCode.VALIDATION_ERROR, message=f"The command is not valid: {text}", retryable=False)
            try:
                await self._publisher.answer(message, _write(fault), message_type=envelope.FAULT_TYPE, headers={})
            except UnpublishedError as error:  # coming again, it would be parked twice
                _log.warning("the sender of a parked %s could not be told (%s)", command, error)
        return f"parked as {reason}"

    async def _fail(
        self, message: IncomingMessage, command: CommandType, read: Envelope, error: PaymentServiceError
    ) -> str:
        """A fault for whoever waits; otherwise another try, or the dead-letter queue."""
        if read.reply_to is not None:
            await self._answer(message, translation.fault(error), envelope.FAULT_TYPE, read)
            return error.code
        attempts = read.attempts + 1
        now = self._clock.now().isoformat()
        headers = {
            envelope.FAULT_CODE: error.code,
            envelope.ATTEMPTS: attempts,
            envelope.FIRST_FAILED_AT: read.first_failed_at or now,
            envelope.LAST_FAILED_AT: now,
        }
        delays = topology.DELAY_QUEUES[command]
        # An error without a code of its own is a surprise: it may pass as well.
        passing = error.retryable or error.code == FaultCode.INTERNAL_ERROR
        if passing and (attempts <= len(delays) or error.retried_for_ever):
            longest = AWAY_DELAYS if error.retried_for_ever else len(delays)
            delay_queue = delays[min(attempts, longest) - 1].name
            await self._publisher.again(message, delay_queue=delay_queue, headers=headers)
            return f"{error.code}, again later"
        reason = DeadLetterReason.EXHAUSTED if passing else DeadLetterReason.REFUSED
        await self._park(message, command, reason, {envelope.REASON_TEXT: error.message, **headers})
        return f"{error.code}, parked as {reason}"

    async def _park(
        self, message: IncomingMessage, command: CommandType, reason: DeadLetterReason, headers: dict[str, Any]
    ) -> None:
        queue_name = topology.COMMAND_QUEUES[command].name
        headers = {envelope.REASON: reason.value, **headers}
        await self._publisher.dead_letter(message, queue_name=queue_name, headers=headers)

    async def _answer(
        self,
        message: IncomingMessage,
        record: Record,
        message_type: str,
        read: Envelope,
        headers: dict[str, str] | None = None,
    ) -> None:
        headers = {envelope.REQUEST_ID: read.context.request_id, **(headers or {})}
        await self._publisher.answer(message, _write(record), message_type=message_type, headers=headers)


def _loggable(sent: object) -> str:
    """An id as it was sent, unless a log must not hold it."""
    return str(sent) if envelope.is_request_id(sent) else ""


def _write(record: Record) -> bytes:
    """A fault leaves out what is not known; a reply has all its members."""
    return (
        record.model_dump_json(by_alias=True, exclude_none=True).encode()
        if isinstance(record, Fault)
        else body.write(record)
    )
