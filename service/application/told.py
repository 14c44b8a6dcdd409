"""What the gateway tells unasked, of many sessions at once: stored for the payments that are ours and still pending."""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from contracts import envelope, logs
from service.application.budget import Priority
from service.application.ports import CommandContext, Told
from service.application.steps import Steps
from service.domain.errors import PaymentServiceError, StoreRefusedError, StoreUnavailableError
from service.domain.outcomes import Outcome, Unknown
from service.domain.payment import Payment
from service.domain.status import ChangeKind, decide

_log = logging.getLogger(__name__)

REMEMBERED: Final = 20_000
"""What was told so recently is not looked at again: minutes of a rush, and readings overlap by seconds."""
CONCURRENCY: Final = 4
"""Payments finished at once: whoever waits for an answer comes first."""
_NAME: Final = re.compile(r"\w{1,100}")


@dataclass(kw_only=True)
class Counters:
    """Since the start: what was told for the first time, payments that it finished, and those that it could not."""

    told: int = 0
    finished: int = 0
    failures: int = 0


class Listener:
    """Stores what the gateway tells. One per process."""

    def __init__(self, *, steps: Steps) -> None:
        self._steps = steps
        self._known: dict[str, None] = {}
        self._alone = asyncio.Lock()
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self.counters = Counters()

    async def hear(self, told: Sequence[Told]) -> None:
        """Store what is new of it; when this returns all of it is stored, also what another call began to store.

        What cannot be stored for one payment is logged and counted, and stored when it is told again.

        Raises:
            StoreUnavailableError: nobody knows how much is stored.
        """
        async with self._alone:
            new = [each for each in told if each.id not in self._known]
            of_session: dict[str, Told] = {}
            for each in new:
                if each.session_id not in of_session or of_session[each.session_id].outcome is None:
                    of_session[each.session_id] = each
            payments = await self._steps.store.pending_of_sessions(list(of_session)) if of_session else []
            tries = (self._try(payment, of_session[payment.session_id or ""]) for payment in payments)
            ends = await asyncio.gather(*tries, return_exceptions=True)
            if broken := next((each for each in ends if isinstance(each, BaseException)), None):
                raise broken
            failed = {payment.session_id for payment, done in zip(payments, ends, strict=True) if not done}
            self._remember([each for each in new if each.session_id not in failed])

    def _remember(self, told: Sequence[Told]) -> None:
        self.counters.told += len(told)
        self._known.update((each.id, None) for each in told)
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    async def _try(self, payment: Payment, told: Told) -> bool:
        """Whether it need not be heard again."""
        trace_parent = envelope.new_trace_parent()
        name = told.id if _NAME.fullmatch(told.id) else uuid4()
        context = CommandContext(message_id="", request_id=f"feed-{name}", trace_parent=trace_parent)
        ids = {"request_id": context.request_id, **envelope.trace_ids(trace_parent)}
        with logs.context(payment_id=payment.id, booking_id=payment.booking_id, **ids):
            async with self._slots:
                try:
                    if await self._finish(payment, told, context):
                        return True
                except PaymentServiceError as error:
                    if isinstance(error, StoreUnavailableError) and not isinstance(error, StoreRefusedError):
                        raise
                    _log.warning("payment %d cannot be finished yet: %s", payment.id, error.code)
                except Exception:  # noqa: BLE001 - one payment that surprises us must not stop the others
                    _log.exception("payment %d could not be finished", payment.id)
                self.counters.failures += 1
        return False

    async def _finish(self, payment: Payment, told: Told, context: CommandContext) -> bool:
        """False if the gateway must be asked to make sure, and cannot be."""
        outcome = told.outcome
        if outcome is None or self._is_odd(payment, outcome):
            # An event keeps the shape of the account's own API version; an answer has the one that we know.
            seconds = self._steps.policy.gateway_timeout_seconds
            outcome = await self._steps.gateway.look_up(payment, timeout_seconds=seconds, priority=Priority.BACKGROUND)
            if isinstance(outcome, Unknown):
                return False
        payment = await self._steps.apply(payment, outcome, context=context)
        self.counters.finished += payment.status.is_final
        return True

    def _is_odd(self, payment: Payment, outcome: Outcome) -> bool:
        """Whether the outcome would not simply finish the payment."""
        change = decide(payment, outcome, at=self._steps.clock.now())
        return change is not None and change.kind not in {ChangeKind.COMPLETED, ChangeKind.FAILED}
