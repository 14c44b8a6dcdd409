"""What surrounds every handler: it reads the envelope, sends the reply and decides what becomes of a failure.

| Result | with a reply address | fire-and-forget |
|---|---|---|
| done | reply; to a sender who waits for a final status, once there is one | (the outcome is an event) |
| invalid, or from a sender who is not allowed | dead-lettered, and a fault | dead-lettered |
| deadline passed | dead-lettered | dead-lettered |
| permanent failure | fault | dead-lettered |
| transient failure, or not done in 12 s | fault | retried after growing delays; dead-lettered after the last |
| no database; Stripe busy, or refusing our key or form | fault | retried for ever, after at most 30 s each time |
| unexpected error | fault | as a transient failure |

The acknowledgement always comes last. If the service dies or the broker fails before it, the command is delivered
again, and every handler is safe to repeat.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Final, Protocol

from aio_pika import IncomingMessage
from faststream import BaseMiddleware
from faststream.message import StreamMessage

from contracts import envelope, topology
from contracts.body import InvalidBodyError, Record
from contracts.commands import CommandType
from contracts.faults import DeadLetterReason, Fault, FaultCode
from runtime import logs, tracing
from service.application import translation
from service.application.ports import Clock, UnpublishedError
from service.domain.errors import MessageIdReusedError, OutcomeUnknownError, PaymentServiceError
from service.entrypoints import command_envelope
from service.entrypoints.command_envelope import Envelope, RejectedCommandError
from service.entrypoints.kept_delivery import UnpublishableError, published
from service.entrypoints.long_poll import LongPoll, PendingReply
from service.entrypoints.publisher import Publisher
from service.failpoints import FailPoint, hit

_log = logging.getLogger(__name__)

_COMMAND_OF_QUEUE: Final = {queue.name: command for command, queue in topology.COMMAND_QUEUES.items()}
ENDLESS_DELAYS: Final = 3
"""What is retried for ever waits for the third delay, 30 s, at most, so that a backlog is soon done later."""
HANDLER_SECONDS: Final = 12.0
"""How long a handler may take, whatever hangs: more than the gateway's timeout, and less than GRACE_SECONDS and
RabbitMQ's consumer timeout, which would close the channel with all deliveries on it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a consumer returns: the reply, and headers for its message.

    `unsettled`: the payment in the reply if that is not final yet; its sender may want to wait for the final status.
    """

    record: Record
    headers: dict[str, str] = field(default_factory=dict)
    unsettled: int | None = None


class Disposition(StrEnum):
    """What became of a delivery."""

    DONE = "done"
    DEFERRED = "deferred"
    """Done; the reply is sent when the payment is final or the sender's time is over."""
    FAULT = "fault"
    RETRY = "retry"
    DEAD_LETTERED = "dead_lettered"
    RETURNED = "returned"
    """To RabbitMQ, unchanged: the broker accepted neither a reply nor a copy."""


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """How a delivery ended. `code`: of the fault, after a failure; `reason`: of the dead letter, if it became one."""

    disposition: Disposition
    code: str = ""
    reason: DeadLetterReason | None = None

    def __str__(self) -> str:
        """For the log."""
        match self.disposition:
            case Disposition.FAULT:
                return self.code
            case Disposition.RETRY:
                return f"{self.code}, retry later"
            case Disposition.DEAD_LETTERED:
                return f"{self.code}, dead-lettered as {self.reason}".removeprefix(", ")
            case _:
                return self.disposition


class CommandObserver(Protocol):
    """Counts commands."""

    def on_command(self, command: CommandType, result: CommandResult, seconds: float) -> None:
        """A delivery ended after `seconds`."""


class CommandMiddleware(BaseMiddleware):
    """One delivery of one command."""

    def __init__(
        self,
        msg: Any,
        /,
        *,
        context: Any,
        publisher: Publisher,
        clock: Clock,
        long_poll: LongPoll,
        observer: CommandObserver,
        senders: frozenset[str] | None,
        leaving: asyncio.Event,
        handler_seconds: float = HANDLER_SECONDS,
    ) -> None:
        """`senders`: RabbitMQ users whose commands are executed; None: the broker decides who may send.

        `leaving` is set when the process stops: no delivery is kept any longer then.
        """
        super().__init__(msg, context=context)
        self._publisher = publisher
        self._clock = clock
        self._long_poll = long_poll
        self._observer = observer
        self._senders = senders
        self._leaving = leaving
        self._handler_seconds = handler_seconds

    async def consume_scope(
        self, call_next: Callable[[Any], Awaitable[Any]], msg: StreamMessage[IncomingMessage]
    ) -> None:
        """Handle, reply, acknowledge."""
        message = msg.raw_message
        queue = self.context.get_local("handler_").queue.name
        command = _COMMAND_OF_QUEUE[queue]
        started = time.perf_counter()
        parent = _trace_parent(message)
        with tracing.span(f"process {command}", "consumer", parent=parent) as span, logs.context(**_ids(message, span)):
            try:
                result = await self._handle(call_next, msg, message, command)
                hit(FailPoint.NOT_ACKED)
                await message.ack()
            except UnpublishedError as error:
                _log.warning("neither reply nor copy of a %s could be sent (%s); it is delivered again", queue, error)
                result = CommandResult(disposition=Disposition.RETURNED)
                await message.nack(requeue=True)
            seconds = time.perf_counter() - started
            self._observer.on_command(command, result, seconds)
            span.set({"payment.disposition": result.disposition, "payment.code": result.code or None})
            if result.disposition is not Disposition.RETURNED:
                fields = {
                    "disposition": result.disposition,
                    "code": result.code or None,
                    "dead_letter_reason": result.reason,
                    "duration_ms": round(seconds * 1000, 1),
                }
                is_lost = result.disposition is Disposition.DEAD_LETTERED  # its sender waits for an event in vain
                _log.log(logging.WARNING if is_lost else logging.INFO, "%s: %s", command, result, extra=fields)

    async def _handle(
        self, call_next: Callable[[Any], Awaitable[Any]], msg: Any, message: IncomingMessage, command: CommandType
    ) -> CommandResult:
        try:
            parsed = command_envelope.parse(message, expected=command, now=self._clock.now(), senders=self._senders)
        except RejectedCommandError as rejected:
            whose = {envelope.REASON: rejected.reason.value}
            return await self._reject(message, command, rejected.reason, rejected.text, headers=whose)
        logs.bind(request_id=parsed.context.request_id)
        try:
            with self.context.scope("command_context", parsed.context):
                answer = await self._in_time(call_next, msg, command)
        except InvalidBodyError as error:
            return await self._reject(message, command, DeadLetterReason.INVALID, str(error))
        except MessageIdReusedError as error:
            return await self._reject(message, command, DeadLetterReason.ID_CONFLICT, error.message)
        except PaymentServiceError as error:
            return await self._fail(message, command, parsed, error)
        except Exception:  # noqa: BLE001 - an unexpected error must still be answered or retried
            _log.exception("%s failed", command)
            return await self._fail(message, command, parsed, PaymentServiceError())
        hit(FailPoint.NOT_REPLIED)
        return await self._done(message, command, parsed, answer)

    async def _done(
        self, message: IncomingMessage, command: CommandType, parsed: Envelope, answer: Answer
    ) -> CommandResult:
        """Reply, now or later, if there is a reply address."""
        if parsed.reply_to is None:
            return CommandResult(disposition=Disposition.DONE)
        headers = {envelope.REQUEST_ID: parsed.context.request_id, **answer.headers}
        if parsed.wait_seconds and answer.unsettled is None:
            headers[envelope.WAIT_SECONDS] = str(parsed.wait_seconds)
        elif parsed.wait_seconds and self._defer(message, parsed, answer, headers):
            return CommandResult(disposition=Disposition.DEFERRED)
        await self._answer(message, answer.record, envelope.reply_type(command), headers)
        return CommandResult(disposition=Disposition.DONE)

    def _defer(self, message: IncomingMessage, parsed: Envelope, answer: Answer, headers: dict[str, str]) -> bool:
        """Whether the reply is sent later."""
        reply = PendingReply(
            reply_to=parsed.reply_to or "",
            correlation_id=message.correlation_id,
            wait_seconds=parsed.wait_seconds,
            last_known=_write(answer.record),
            headers=headers,
            log_fields=logs.current(),
            trace_parent=tracing.current().trace_parent,
        )
        seconds = (parsed.wait_until - self._clock.now()).total_seconds()
        return self._long_poll.defer(answer.unsettled or 0, reply, seconds=seconds)

    async def _in_time(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any, command: CommandType) -> Answer:
        """What the handler answers. One that hangs is cancelled to free its slot: handlers are safe to repeat."""
        cut_off = asyncio.timeout(self._handler_seconds)
        try:
            async with cut_off:
                answer: Answer = await call_next(msg)
                return answer
        except TimeoutError:
            if not cut_off.expired():
                raise
            _log.error("a %s was cancelled after %g s", command, self._handler_seconds)
            raise OutcomeUnknownError from None

    async def _reject(
        self,
        message: IncomingMessage,
        command: CommandType,
        reason: DeadLetterReason,
        text: str,
        *,
        headers: dict[str, str] | None = None,
    ) -> CommandResult:
        """Dead-letter a command once, and send a fault if there is a usable address and the sender waits for it."""
        await self._dead_letter(message, command, reason, {envelope.REASON_TEXT: text})
        if reason not in command_envelope.UNTOLD and command_envelope.has_usable_reply_to(message):
            fault = Fault(code=FaultCode.VALIDATION_ERROR, message=f"The command is not valid: {text}", retryable=False)
            try:
                await self._answer(message, fault, envelope.FAULT_TYPE, headers or {})
            except UnpublishedError as error:  # another delivery would be dead-lettered twice
                _log.warning("the fault for a dead-lettered %s could not be sent (%s)", command, error)
        return CommandResult(disposition=Disposition.DEAD_LETTERED, reason=reason)

    async def _fail(
        self, message: IncomingMessage, command: CommandType, parsed: Envelope, error: PaymentServiceError
    ) -> CommandResult:
        """Send a fault if there is a reply address; otherwise retry or dead-letter."""
        if parsed.reply_to is not None:
            request_id = {envelope.REQUEST_ID: parsed.context.request_id}
            await self._answer(message, translation.fault(error), envelope.FAULT_TYPE, request_id)
            return CommandResult(disposition=Disposition.FAULT, code=error.code)
        attempts = parsed.attempts + 1
        now = self._clock.now().isoformat()
        headers = {
            **tracing.current().carried({}),  # the next attempt comes below this one
            envelope.FAULT_CODE: error.code,
            envelope.ATTEMPTS: attempts,
            envelope.FIRST_FAILED_AT: parsed.first_failed_at or now,
            envelope.LAST_FAILED_AT: now,
        }
        delays = topology.DELAY_QUEUES[command]
        if error.is_transient and (attempts <= len(delays) or error.retried_for_ever):
            longest = ENDLESS_DELAYS if error.retried_for_ever else len(delays)
            delay_queue = delays[min(attempts, longest) - 1].name
            retry = partial(self._publisher.retry, message, delay_queue=delay_queue, headers=headers)
            await published(message, retry, leaving=self._leaving)
            return CommandResult(disposition=Disposition.RETRY, code=error.code)
        reason = DeadLetterReason.EXHAUSTED if error.is_transient else DeadLetterReason.REFUSED
        await self._dead_letter(message, command, reason, {envelope.REASON_TEXT: error.message, **headers})
        return CommandResult(disposition=Disposition.DEAD_LETTERED, code=error.code, reason=reason)

    async def _dead_letter(
        self, message: IncomingMessage, command: CommandType, reason: DeadLetterReason, headers: dict[str, Any]
    ) -> None:
        queue_name, headers = topology.COMMAND_QUEUES[command].name, {envelope.REASON: reason.value, **headers}
        copy = partial(self._publisher.dead_letter, message, queue_name=queue_name, headers=headers)
        await published(message, copy, leaving=self._leaving)

    async def _answer(
        self, message: IncomingMessage, record: Record, message_type: str, headers: dict[str, str]
    ) -> None:
        answer = partial(
            self._publisher.answer,
            _write(record),
            reply_to=message.reply_to or "",
            correlation_id=message.correlation_id or message.message_id,  # in a fault for a sender who named none
            message_type=message_type,
            headers=headers,
        )
        try:
            await published(message, answer, leaving=self._leaving)
        except UnpublishableError as error:  # only its address is the sender's: no other delivery could be answered
            _log.warning("RabbitMQ fails at the reply_to of a command (%s); its sender hears nothing", error)


def _trace_parent(message: IncomingMessage) -> str | None:
    given = message.headers.get(envelope.TRACE_PARENT)
    return str(given) if envelope.is_trace_parent(given) else None


def _ids(message: IncomingMessage, span: tracing.Span) -> dict[str, str]:
    """The ids for the log: the sender's own where they are safe to log."""
    sent = {"message_id": message.message_id, "request_id": message.headers.get(envelope.REQUEST_ID)}
    fit = {name: str(value) for name, value in sent.items() if envelope.is_request_id(value)}
    return fit | envelope.trace_ids(span.trace_parent or _trace_parent(message) or envelope.new_trace_parent())


def _write(record: Record) -> bytes:
    """A fault omits unknown members; a reply has all its members."""
    return record.model_dump_json(by_alias=True, exclude_none=isinstance(record, Fault)).encode()
