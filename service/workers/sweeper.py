"""Finishes what nobody else does: payments that a crash left without a session, are overdue or not polled.

Any number of processes may run a sweeper.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol
from uuid import uuid4

from runtime.aio import PeriodicLoop
from service.application.checkout import Checkout
from service.application.own_work import own_work
from service.application.ports import Clock, CommandContext, Store
from service.domain.errors import PaymentServiceError, StoreUnavailableError
from service.domain.payment import Payment

_log = logging.getLogger(__name__)

POLL_SECONDS: Final = 3.0
BATCH: Final = 20
CONCURRENCY: Final = 4
"""Calls to the gateway at once: callers who wait for an answer come first."""
UNOPENED_AFTER: Final = timedelta(seconds=15)
"""Longer than any running call to the gateway: by now nobody works on the payment."""


class SweeperObserver(Protocol):
    """Counts what the sweeper does."""

    def on_sweep(self, claimed: int) -> None:
        """A pass claimed so many payments."""

    def on_sweep_failure(self) -> None:
        """A claimed payment could not be finished at this try."""


@dataclass(kw_only=True, eq=False)
class Sweeper:
    """Claims pending payments that are stuck or overdue and moves each one step on; a failed step is repeated later."""

    store: Store
    checkout: Checkout
    clock: Clock
    observer: SweeperObserver

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._loop = PeriodicLoop(
            trouble="stuck payments cannot be looked for", poll_seconds=POLL_SECONDS, passing=StoreUnavailableError
        )

    async def run(self) -> None:
        """Sweep until `stop`."""
        await self._loop.run(self._pass)

    def stop(self) -> None:
        """End `run` after the payments in progress; claimed payments that are not begun are left to other replicas."""
        self._loop.stop()

    async def sweep_next(self) -> int:
        """Run one pass; how many payments were claimed."""
        now = self.clock.now()
        payments = await self.store.claim_unfinished(at=now, unopened_before=now - UNOPENED_AFTER, limit=BATCH)
        self.observer.on_sweep(len(payments))
        await asyncio.gather(*(self._sweep(payment) for payment in payments))
        return len(payments)

    async def _sweep(self, payment: Payment) -> None:
        async with self._slots:
            if self._loop.stopping:
                return
            request_id = f"sweeper-{uuid4()}"
            async with own_work("sweep", request_id=request_id, store=self.store, payment=payment) as context:
                await self._try(payment, context)

    async def _try(self, payment: Payment, context: CommandContext) -> None:
        fields = {"attempts": payment.settle_attempts}
        try:
            await self.checkout.finish(payment, context=context)
        except PaymentServiceError as error:
            _log.warning("payment %d cannot be finished yet: %s", payment.id, error.code, extra=fields)
        except Exception:  # noqa: BLE001 - an unexpected error with one payment must not stop the others
            _log.exception("payment %d could not be finished", payment.id, extra=fields)
        else:
            return
        self.observer.on_sweep_failure()

    async def _pass(self) -> float:
        return POLL_SECONDS if await self.sweep_next() < BATCH else 0.0
