"""The texts of the AsyncAPI document: what the messages promise. Every figure in them comes from the code."""

from dataclasses import dataclass
from typing import Final

from contracts import envelope, topology
from contracts.commands import CommandType
from contracts.events import EventKey
from service.entrypoints.command_envelope import DEFAULT_DEADLINE
from service.entrypoints.middleware import ENDLESS_DELAYS, HANDLER_SECONDS

_DELAYS = [*map(str, topology.RETRY_DELAYS_SECONDS)]
_DELAYS_IN_WORDS = f"{', '.join(_DELAYS[:-1])} and {_DELAYS[-1]} s"

DESCRIPTION: Final = f"""\
Collects the money for bookings through Stripe Checkout. Commands come over RabbitMQ (AMQP 0-9-1), and every change of
a payment is told as an event. All queues are quorum queues, all exchanges durable; the service declares them.
REST in front of the same commands: see the OpenAPI document.

## Commands

A command is published to the exchange `{topology.COMMANDS.name}` with its type as the routing key. At most
{envelope.MAX_MESSAGE_BYTES // 1024} KiB and {envelope.MAX_HEADERS} headers. Strict JSON: an unknown member, a repeated
member or `NaN` is refused, and an optional member that is null is absent.

- **With `reply_to` it is always answered**, by a reply or by a fault, with the command's `correlation_id`. `reply_to`
  is a direct reply-to address (`{envelope.DIRECT_REPLY_TO}`) or a queue whose name begins with
  `{envelope.REPLY_QUEUE_PREFIX}`; any other is refused. Not answered is only what is past its deadline.
- **Without `reply_to` it is fire-and-forget:** the outcome is an event.
- **Delivered at least once, done once.** Every command is safe to repeat. The `message_id` of a create is a key for
  30 days: delivered again it means the same payment; with another body it is refused. An `idempotency-key` header is
  one as well, scoped to `x-caller`.
- **Deadline:** `timestamp` + `expiration`. A command past it is not executed but dead-lettered (`expired`), since
  nobody waits any more. With `reply_to` and without `expiration` it is {DEFAULT_DEADLINE.seconds} s; without both
  there is none. Timestamps are whole seconds, so the deadline is over when the whole second is. Nothing takes longer
  than {HANDLER_SECONDS:g} s: then the answer is the fault `DEADLINE_EXCEEDED`; the outcome is unknown, repeating is
  safe.
- **Order:** commands are worked on side by side, in no order. Of two creates for one booking the later one decides.

## Retries and dead letters

- A fire-and-forget command that fails for a passing reason comes back after {_DELAYS_IN_WORDS} (through
  `<command queue>.retry.<delay>`), then it is dead-lettered as `exhausted`. One that fails for good is dead-lettered
  at once, as `refused`. While the database takes no writes, or Stripe takes no call, nothing is dead-lettered for
  that: it is tried again, at most {topology.RETRY_DELAYS_SECONDS[ENDLESS_DELAYS - 1]} s apart, for as long as it takes.
- What cannot be understood is dead-lettered at its first delivery, once; its sender gets a fault, too, if `reply_to`
  is usable. The fault has the command's `message_id` as its `correlation_id` if the command had none of its own.
- A dead letter has the command's body and properties, its headers but for `CC`, `BCC` and unknown ones that begin
  with `x-`, and the reason. What RabbitMQ dead-letters itself, after
  {topology.DELIVERY_LIMIT} deliveries or past its `expiration`, carries RabbitMQ's `x-death` instead.
- Nothing leaves a dead-letter queue by itself: an operator replays or drops it.

## Events

- CloudEvents 1.0 in structured mode, persistent, on the topic exchange `{topology.EVENTS.name}`. Bind queues of your
  own; the routing keys are the channels' addresses.
- **Delivered at least once, none is lost:** an event is committed with the change that it tells, and published until
  RabbitMQ has confirmed it. A resend has the same id and the same bytes: drop an `id` that you have seen.
- **Order:** one payment's events are published in order, and `data.sequence` counts them, gapless, from 1. Redelivery
  may still shuffle them: order by `sequence`. There is no order between payments.
- Each event has the whole new state, so the latest one is enough. COMPLETED and FAILED are final.
- A subscriber's queue with a `max-length` should drop (`drop-head`). If it refuses (`reject-publish`), RabbitMQ refuses
  the event as a whole, and every subscriber waits until there is room.

## Evolution

Be lenient with what you receive: replies, faults and events may get further members and headers, and further fault
codes and reasons may come (go by `retryable`). What would break a sender or a receiver raises this document's first
number; an event that changes its shape gets another `type` (`.v2`).
"""


@dataclass(frozen=True, kw_only=True)
class CommandText:
    """The operation name, title and description of a command."""

    operation: str
    title: str
    description: str


COMMANDS: Final = {
    CommandType.CREATE_CHECKOUT: CommandText(
        operation="createCheckoutSession",
        title="Start a payment for a booking",
        description="Opens a checkout session at Stripe. Repeated with the same content it answers the same session; "
        "other content ends the booking's old session first. A booking that is paid is refused with `ALREADY_PAID`.",
    ),
    CommandType.VERIFY_CHECKOUT: CommandText(
        operation="verifyCheckoutSession",
        title="Ask Stripe how a checkout session stands",
        description="A final payment is answered from the database. If Stripe cannot be asked the answer is the last "
        "known status, and the header `x-payment-status-source` says `local`.",
    ),
    CommandType.PAYMENT_STATUS: CommandText(
        operation="getPaymentStatus",
        title="Read a payment's status without asking Stripe",
        description="From the database alone, as it was last known.",
    ),
}

EVENTS: Final = {
    EventKey.PENDING: "A checkout session was opened: the payer can pay.",
    EventKey.COMPLETED: "The payer has paid. Final.",
    EventKey.FAILED: "The payment was not made. Final; `data.reason` says why: `expired`, `replaced` (by another "
    "create), `refused`, `closed` (by an operator).",
    EventKey.ATTENTION: "A person must look; the status stays as it is. `data.reason`: `paid_after_failed` (somebody "
    "paid what had failed), `paid_differently` (another amount or currency), `unsettled` (ten tries in vain), "
    "`unknown_session` (Stripe does not know its session, or has another one of this booking that may take or has "
    "taken money); `closed`: one has looked.",
    EventKey.REFUNDED: "Money was given back at Stripe, or a refund has failed there and its money is back with the "
    "merchant; `data.refundedAmount` is what stands refunded in all, `data.reason` says `whole`, `part` or `none`. The "
    "status stays as it is: to pay again, the booking needs a new id.",
    EventKey.DISPUTED: "The payer's bank demands the money back, or has decided: `data.disputeStatus`, and why in "
    "`data.reason`. The status stays as it is.",
}
