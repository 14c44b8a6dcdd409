"""What surrounds every handler: the envelope, the answer, and what becomes of a failure.

| How it ended | with a reply address | fire-and-forget |
|---|---|---|
| done | reply; of a verify whose sender waits for a final status, as soon as there is one | (the outcome is an event) |
| cannot be understood, or of a sender not allowed | parked, and a fault | parked |
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
from enum import StrEnum
from typing import Any, Final

from aio_pika import IncomingMessage
from faststream import BaseMiddleware
from faststream.message import StreamMessage

from contracts import body, envelope, logs, topology
from contracts.body import InvalidBodyError, Record
from contracts.commands import CommandType
from contracts.faults import DeadLetterReason, Fault, FaultCode
from service.application import translation
from service.application.ports import Clock
from service.domain.errors import MessageIdReusedError, OutcomeUnknownError, PaymentServiceError
from service.entrypoints import envelopes
from service.entrypoints.broker import Publisher, UnpublishedError
from service.entrypoints.envelopes import Envelope, RejectedCommandError
from service.entrypoints.holds import Held, Holds
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
    """What a consumer returns: the reply, and headers for its message.

    `unsettled`: the payment that it tells of, if that is not final yet: a sender may want to wait until it is.
    """

    record: Record
    headers: dict[str, str] = field(default_factory=dict)
    unsettled: int | None = None


class How(StrEnum):
    """What became of a delivery, in a word."""

    DONE = "done"
    HELD = "held"
    """Done but for the answer, which comes when the payment is final or the sender's time is over."""
    FAULT = "fault"
    AGAIN = "again"
    PARKED = "parked"
    RETURNED = "returned"
    """To RabbitMQ, as it came: it would take neither answer nor copy."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a delivery ended: after a failure with the fault's code, if it was parked with the dead letter's reason."""

    how: How
    code: str = ""
    parked: DeadLetterReason | None = None

    def __str__(self) -> str:
        """For the log."""
        match self.how:
            case How.FAULT:
                return self.code
            case How.AGAIN:
                return f"{self.code}, again later"
            case How.PARKED:
                return f"{self.code}, parked as {self.parked}" if self.code else f"parked as {self.parked}"
            case _:
                return self.how


class Delivery(BaseMiddleware):
    """One delivery of one command."""

    def __init__(
        self,
        msg: Any,
        /,
        *,
        context: Any,
        publisher: Publisher,
        clock: Clock,
        holds: Holds,
        senders: frozenset[str] | None = None,
        handler_seconds: float = HANDLER_SECONDS,
        told: Callable[[CommandType, Ending, float], None] = lambda *_: None,
    ) -> None:
        """`told` hears of each delivery when it is over: how it ended and in how many seconds."""
        super().__init__(msg, context=context)
        self._publisher = publisher
        self._clock = clock
        self._holds = holds
        self._senders = senders
        self._handler_seconds = handler_seconds
        self._told = told

    async def consume_scope(
        self, call_next: Callable[[Any], Awaitable[Any]], msg: StreamMessage[IncomingMessage]
    ) -> None:
        """Handle, answer, acknowledge."""
        message = msg.raw_message
        queue = self.context.get_local("handler_").queue.name
        command = _COMMAND_OF_QUEUE[queue]
        started = time.perf_counter()
        with logs.context(**_ids(message)):
            try:
                ending = await self._handle(call_next, msg, message, command)
                hit(FailPoint.NOT_ACKED)
                await message.ack()
            except UnpublishedError as error:
                _log.warning("a %s could not be answered or parked (%s); it comes again", queue, error)
                ending = Ending(how=How.RETURNED)
                await asyncio.sleep(_REQUEUE_PAUSE_SECONDS)
                await message.nack(requeue=True)
            seconds = time.perf_counter() - started
            self._told(command, ending, seconds)
            if ending.how is not How.RETURNED:
                fields = {"ended": ending.how, "code": ending.code or None, "dead_letter_reason": ending.parked}
                _log.info("%s: %s", command, ending, extra=fields | {"duration_ms": round(seconds * 1000, 1)})

    async def _handle(
        self, call_next: Callable[[Any], Awaitable[Any]], msg: Any, message: IncomingMessage, command: CommandType
    ) -> Ending:
        try:
            read = envelopes.read(message, expected=command, now=self._clock.now(), senders=self._senders)
        except RejectedCommandError as rejected:
            return await self._park_rejected(message, command, rejected.reason, rejected.text)
        logs.bind(request_id=read.context.request_id)
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
            _log.exception("%s failed", command)
            return await self._fail(message, command, read, PaymentServiceError())
        hit(FailPoint.NOT_REPLIED)
        return await self._done(message, command, read, answer)

    async def _done(self, message: IncomingMessage, command: CommandType, read: Envelope, answer: Answer) -> Ending:
        """The reply for whoever waits, now or later."""
        if read.reply_to is None:
            return Ending(how=How.DONE)
        headers = dict(answer.headers)
        if read.wait_seconds and answer.unsettled is None:
            headers[envelope.WAIT_SECONDS] = str(read.wait_seconds)
        elif read.wait_seconds and self._hold(message, read, answer):
            return Ending(how=How.HELD)
        await self._answer(message, answer.record, envelope.reply_type(command), read, headers)
        return Ending(how=How.DONE)

    def _hold(self, message: IncomingMessage, read: Envelope, answer: Answer) -> bool:
        """Whether the sender is answered later."""
        held = Held(
            reply_to=read.reply_to or "",
            correlation_id=message.correlation_id,
            wait_seconds=read.wait_seconds,
            last_known=_write(answer.record),
            headers={envelope.REQUEST_ID: read.context.request_id, **answer.headers},
            log_fields=logs.current(),
        )
        seconds = (read.wait_until - self._clock.now()).total_seconds()
        return self._holds.hold(answer.unsettled or 0, held, seconds=seconds)

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
    ) -> Ending:
        """What cannot be understood is parked once; its sender is told if that is possible (and it still waits)."""
        await self._park(message, command, reason, {envelope.REASON_TEXT: text})
        if reason is not DeadLetterReason.EXPIRED and envelopes.usable_reply_to(message):
            fault = Fault(code=FaultCode.VALIDATION_ERROR, message=f"The command is not valid: {text}", retryable=False)
            try:
                await self._publisher.answer(message, _write(fault), message_type=envelope.FAULT_TYPE, headers={})
            except UnpublishedError as error:  # coming again, it would be parked twice
                _log.warning("the sender of a parked %s could not be told (%s)", command, error)
        return Ending(how=How.PARKED, parked=reason)

    async def _fail(
        self, message: IncomingMessage, command: CommandType, read: Envelope, error: PaymentServiceError
    ) -> Ending:
        """A fault for whoever waits; otherwise another try, or the dead-letter queue."""
        if read.reply_to is not None:
            await self._answer(message, translation.fault(error), envelope.FAULT_TYPE, read)
            return Ending(how=How.FAULT, code=error.code)
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
            return Ending(how=How.AGAIN, code=error.code)
        reason = DeadLetterReason.EXHAUSTED if passing else DeadLetterReason.REFUSED
        await self._park(message, command, reason, {envelope.REASON_TEXT: error.message, **headers})
        return Ending(how=How.PARKED, code=error.code, parked=reason)

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


def _ids(message: IncomingMessage) -> dict[str, str]:
    """What the log calls the delivery by: what its sender called it, where that is fit to be written down."""
    sent = {"message_id": message.message_id, "request_id": message.headers.get(envelope.REQUEST_ID)}
    trace_parent = message.headers.get(envelope.TRACE_PARENT)
    traced = str(trace_parent) if envelope.is_trace_parent(trace_parent) else envelope.new_trace_parent()
    fit = {name: str(value) for name, value in sent.items() if envelope.is_request_id(value)}
    return fit | envelope.trace_ids(traced)


def _write(record: Record) -> bytes:
    """A fault leaves out what is not known; a reply has all its members."""
    return (
        record.model_dump_json(by_alias=True, exclude_none=True).encode()
        if isinstance(record, Fault)
        else body.write(record)
    )
