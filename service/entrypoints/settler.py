"""The settler: finishes what nobody is polling. Any number of processes may run one."""

import asyncio
import logging
from datetime import timedelta
from typing import Final
from uuid import uuid4

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


class Settler:
    """Claims pending payments that are stuck or overdue and moves each a step on; what fails comes again later."""

    def __init__(self, *, steps: Steps) -> None:
        self._steps = steps
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._rounds = Rounds(trouble="stuck payments cannot be looked for", poll_seconds=POLL_SECONDS)

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
        await asyncio.gather(*(self._settle(payment) for payment in payments))
        return len(payments)

    async def _settle(self, payment: Payment) -> None:
        context = CommandContext(message_id="", request_id=f"settler-{uuid4()}")
        fields = {"payment_id": payment.id, "attempts": payment.settle_attempts, "request_id": context.request_id}
        async with self._slots:
            if self._rounds.stopping:
                return
            try:
                await self._steps.settle(payment, context=context)
            except PaymentServiceError as error:
                _log.warning("payment %d cannot be settled yet: %s", payment.id, error.code, extra=fields)
            except Exception:  # noqa: BLE001 - one payment that surprises us must not stop the others
                _log.exception("payment %d could not be settled", payment.id, extra=fields)

    async def _round(self) -> float:
        return POLL_SECONDS if await self.settle_next() < BATCH else 0.0
