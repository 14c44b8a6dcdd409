"""The settler: finishes what nobody is polling. Any number of processes may run one."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import uuid4

from contracts import envelope, logs
from service.application.ports import CommandContext
from service.application.steps import Steps
from service.domain.errors import PaymentServiceError
from service.domain.payment import Payment
from service.entrypoints.rounds import Rounds

_log = logging.getLogger(__name__)

POLL_SECONDS: Final = 3.0
BATCH: Final = 20
CONCURRENCY: Final = 4
"""Calls to the gateway at once: whoever waits for an answer comes first."""
UNOPENED_AFTER: Final = timedelta(seconds=15)
"""Longer than any call to the gateway under way: by now nobody works on the payment."""


@dataclass(kw_only=True)
class Counters:
    """Since the start. `failures`: payments that could not be settled at a try."""

    rounds: int = 0
    claimed: int = 0
    failures: int = 0


class Settler:
    """Claims pending payments that are stuck or overdue and moves each a step on; what fails comes again later."""

    def __init__(self, *, steps: Steps) -> None:
        self._steps = steps
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._rounds = Rounds(trouble="stuck payments cannot be looked for", poll_seconds=POLL_SECONDS)
        self.counters = Counters()

    async def run(self) -> None:
        """Settle until `stop`."""
        await self._rounds.run(self._round)

    def stop(self) -> None:
        """End `run` after the payments that are under way; what is claimed and not begun is left to other replicas."""
        self._rounds.stop()

    async def settle_next(self) -> int:
        """One round; how many payments were claimed."""
        now = self._steps.clock.now()
        payments = await self._steps.store.claim_unsettled(
            at=now,
            unopened_before=now - UNOPENED_AFTER,
            unpaid_before=now - self._steps.policy.window,
            limit=BATCH,
        )
        self.counters.rounds += 1
        self.counters.claimed += len(payments)
        await asyncio.gather(*(self._settle(payment) for payment in payments))
        return len(payments)

    async def _settle(self, payment: Payment) -> None:
        trace_parent = envelope.new_trace_parent()
        context = CommandContext(message_id="", request_id=f"settler-{uuid4()}", trace_parent=trace_parent)
        ids = {"request_id": context.request_id, **envelope.trace_ids(trace_parent)}
        with logs.context(payment_id=payment.id, booking_id=payment.booking_id, **ids):
            async with self._slots:
                if not self._rounds.stopping:
                    await self._try(payment, context)

    async def _try(self, payment: Payment, context: CommandContext) -> None:
        fields = {"attempts": payment.settle_attempts}
        try:
            await self._steps.settle(payment, context=context)
        except PaymentServiceError as error:
            _log.warning("payment %d cannot be settled yet: %s", payment.id, error.code, extra=fields)
        except Exception:  # noqa: BLE001 - one payment that surprises us must not stop the others
            _log.exception("payment %d could not be settled", payment.id, extra=fields)
        else:
            return
        self.counters.failures += 1

    async def _round(self) -> float:
        return POLL_SECONDS if await self.settle_next() < BATCH else 0.0
