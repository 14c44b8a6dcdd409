"""An operator ends a payment that cannot end by itself: at the gateway first, where its session may still be paid."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from service.application.outcome_writer import OutcomeWriter
from service.application.ports import Clock, CommandContext, Gateway, Store
from service.domain.errors import ConcurrentChangeError
from service.domain.outcomes import Expired, Outcome, Paid, Processing, Unknown, UnknownCause
from service.domain.payment import Payment, PaymentStatus
from service.domain.status import close

_MAX_REREADS: Final = 5
OPENED_WITHIN: Final = timedelta(minutes=4)
"""The call that makes a payment's session ends within this time after the payment is begun, by the database's clock."""


class CloseRefusedError(Exception):
    """The payment is not closed, for a reason that is a sentence for an operator; repeating is safe."""


@dataclass(frozen=True, kw_only=True)
class Closed:
    """The payment after the command. `is_news` is False if it had ended, or had been closed, before."""

    payment: Payment
    is_news: bool


@dataclass(kw_only=True, eq=False)
class Closing:
    """Closes payments. `timeout_seconds` is for each call to the gateway."""

    store: Store
    gateway: Gateway
    outcomes: OutcomeWriter
    clock: Clock
    timeout_seconds: float

    async def close(self, payment: Payment, *, by: str, why: str, context: CommandContext) -> Closed:
        """End the payment, or what needs attention of it; of two who do it at once, one does.

        Raises:
            CloseRefusedError: it is paid, may still be, or nobody can say. What the gateway said of it is stored.
        """
        for _ in range(_MAX_REREADS):
            if payment.status is PaymentStatus.COMPLETED and payment.attention is None:
                raise CloseRefusedError(f"Payment {payment.id} is COMPLETED: there is nothing to close.")
            if payment.status.is_final and payment.open_attention is None:
                return Closed(payment=payment, is_news=False)
            try:
                outcome = None
                if not payment.status.is_final:
                    payment, outcome = await self._ended(payment, context)
                change = close(payment, outcome, at=self.clock.now(), by=by, why=why)
                return Closed(payment=await self.outcomes.record(change, context=context), is_news=True)
            except ConcurrentChangeError:
                payment = await self.store.payment(payment.id) or payment
        raise ConcurrentChangeError(payment=payment.ref)

    async def _ended(self, payment: Payment, context: CommandContext) -> tuple[Payment, Outcome | None]:
        """The pending payment, and how its session stands, which cannot be paid any more; None if it has none."""
        known = payment.open_attention is not None
        if payment.session_id is None:
            found = await self.gateway.find(payment, timeout_seconds=self.timeout_seconds)
            if found is None and self.clock.now() - payment.created_at > OPENED_WITHIN:
                return payment, None
            if found is None:
                raise CloseRefusedError(f"Payment {payment.id} has just begun, and may be opened: try in 5 minutes.")
            if isinstance(found, Unknown):
                raise self._silent(found)
            payment = await self.outcomes.apply(payment, found, context=context)
        outcome = await self.gateway.expire(payment, timeout_seconds=self.timeout_seconds)
        match outcome:
            case Expired() | Unknown(cause=UnknownCause.NO_SESSION):
                return payment, outcome
            case Processing() if known:
                return payment, outcome
            case Processing():
                await self.outcomes.apply(payment, outcome, context=context)
                raise CloseRefusedError(
                    f"Stripe says that payment {payment.id} is being processed: its money may be on its way. It can be "
                    "closed once it needs attention."
                )
            case Paid():
                return await self._paid(payment, outcome, context, known=known), outcome
            case Unknown():
                raise self._silent(outcome)
        raise CloseRefusedError(f"Stripe does not end the session of payment {payment.id}, which can still be paid.")

    async def _paid(self, payment: Payment, outcome: Paid, context: CommandContext, *, known: bool) -> Payment:
        """The payment whose money does not fit, if that was known before."""
        payment = await self.outcomes.apply(payment, outcome, context=context)
        if payment.status is PaymentStatus.COMPLETED:
            raise CloseRefusedError(f"Stripe says that payment {payment.id} is paid: it is COMPLETED now.")
        if not known:
            raise CloseRefusedError(
                f"Stripe says that payment {payment.id} was paid, but differently: it needs attention now. Deal with "
                "the money, then close it."
            )
        return payment

    def _silent(self, unknown: Unknown) -> CloseRefusedError:
        return CloseRefusedError(f"Stripe cannot be asked ({unknown.cause}): nothing was closed. Repeat it later.")
