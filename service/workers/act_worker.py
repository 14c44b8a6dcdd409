"""Does what operators ask for in the console. Any number of processes may run one: each act is claimed by one."""

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from runtime.aio import PeriodicLoop
from service.application.closing import CloseRefusedError, Closing
from service.application.differences import Difference, sentence
from service.application.event_reader import UnreadError
from service.application.outcome_writer import OutcomeWriter
from service.application.own_work import own_work
from service.application.ports import Clock, CommandContext, Gateway, Store
from service.application.ports.operator_acts import ActKind, Acts, OperatorAct
from service.application.reconciliation import Reconciliation
from service.domain.errors import ConcurrentChangeError, IllegalTransitionError, StoreUnavailableError
from service.domain.outcomes import Unknown
from service.domain.payment import Payment

_log = logging.getLogger(__name__)

POLL_SECONDS: Final = 2.0
"""A person waits for it, and the question is answered by an index that is empty."""

TIMEOUT_SECONDS: Final = 8.0
"""For each call to Stripe; a person waits longer than a caller."""

RECONCILE_AROUND: Final = timedelta(minutes=30)
"""Before and after the payment was begun: what else was made for its booking then is compared, too."""
RECONCILE_SECONDS: Final = 45.0
"""Less than an act is claimed for."""

MAX_TOLD: Final = 5
"""Differences in an answer."""

Answer = tuple[bool, str]
"""Whether it is done, and a sentence about it."""


@dataclass(kw_only=True, eq=False)
class ActWorker:
    """Claims acts one by one, and answers each in a sentence."""

    acts: Acts
    store: Store
    gateway: Gateway
    outcomes: OutcomeWriter
    clock: Clock
    reconciliation: Reconciliation
    timeout_seconds: float = TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        self._closing = Closing(
            store=self.store,
            gateway=self.gateway,
            outcomes=self.outcomes,
            clock=self.clock,
            timeout_seconds=self.timeout_seconds,
        )
        self._loop = PeriodicLoop(
            trouble="what operators ask for cannot be read", poll_seconds=POLL_SECONDS, passing=StoreUnavailableError
        )

    async def run(self) -> None:
        """Work until `stop`."""
        await self._loop.run(self._pass)

    def stop(self) -> None:
        """End `run` after the current pass."""
        self._loop.stop()

    async def do_next(self) -> bool:
        """Do one act; False if none waits."""
        act = await self.acts.claim()
        if act is None:
            return False
        is_done, answer = await self._done(act)
        await self.acts.answer(act.id, is_done=is_done, answer=answer)
        fields = {"payment_id": act.payment_id, "by": act.actor, "why": act.why, "answer": answer}
        _log.info("an operator's act: %s, %s", act.kind, "done" if is_done else "not done", extra=fields)
        return True

    async def _pass(self) -> float:
        return 0 if await self.do_next() else POLL_SECONDS

    async def _done(self, act: OperatorAct) -> Answer:
        payment = await self.store.payment(act.payment_id)
        if payment is None:
            return False, "There is no such payment."
        try:
            request_id = f"operator-act-{act.id}"
            async with own_work(act.kind, request_id=request_id, store=self.store, payment=payment) as context:
                return await self._try(act, payment, context)
        except CloseRefusedError as error:
            return False, str(error)
        except (ConcurrentChangeError, IllegalTransitionError):
            return False, "It was changed meanwhile, or Stripe contradicts it: look at it, then ask again."
        except StoreUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - what a person asks for must not end what everybody else needs
            _log.exception("an operator's act failed", extra={"payment_id": act.payment_id})
            return False, f"It failed ({type(error).__name__}); the service's log says why."

    async def _try(self, act: OperatorAct, payment: Payment, context: CommandContext) -> Answer:
        match act.kind:
            case ActKind.CLOSE:
                return await self._close(payment, act, context)
            case ActKind.VERIFY:
                return await self._verify(payment, context)
            case ActKind.RECONCILE:
                return await self._reconcile(payment)
            case ActKind.RESEND:
                return await self._resend(payment)
        return False, "This version of the service does not know this act."

    async def _close(self, payment: Payment, act: OperatorAct, context: CommandContext) -> Answer:
        closed = await self._closing.close(payment, by=act.actor, why=act.why, context=context)
        if not closed.is_news:
            return True, "It had ended, or was closed, before: there was nothing to close."
        return True, f"Closed: the payment is {closed.payment.status}."

    async def _verify(self, payment: Payment, context: CommandContext) -> Answer:
        if payment.session_id is None:
            return False, "It has no session yet that Stripe could be asked about."
        outcome = await self.gateway.look_up(payment, timeout_seconds=self.timeout_seconds)
        if isinstance(outcome, Unknown):
            return False, f"Stripe could not say how it stands ({outcome.cause})."
        payment = await self.outcomes.apply(payment, outcome, context=context)
        return True, f"Stripe says: {type(outcome).__name__.lower()}. The payment is {payment.status}."

    async def _reconcile(self, payment: Payment) -> Answer:
        since, until = payment.created_at - RECONCILE_AROUND, payment.created_at + RECONCILE_AROUND
        sessions, found = 0, list[Difference]()
        try:
            async with (
                asyncio.timeout(RECONCILE_SECONDS),
                aclosing(self.reconciliation.run(since=since, until=until, fix=True)) as stretches,
            ):
                async for stretch in stretches:
                    sessions += stretch.sessions
                    found += stretch.differences
        except (UnreadError, TimeoutError) as error:
            return False, f"It did not come to its end ({str(error) or 'it took too long'}): what was mended stays."
        compared = f"Compared {sessions} of Stripe's sessions, of half an hour before and after it"
        told = " ".join(f"{sentence(each).removesuffix('.')}." for each in found[:MAX_TOLD])
        more = f" {len(found) - MAX_TOLD} more: see the service's log." if len(found) > MAX_TOLD else ""
        is_right = all(each.is_mended for each in found)
        return is_right, f"{compared}: {told}{more}" if found else f"{compared}: no difference."

    async def _resend(self, payment: Payment) -> Answer:
        key = await self.acts.resend(payment.id)
        if key is None:
            return False, "Its events were deleted from the outbox, as they are after a while."
        return True, f"The event {key} is published once more, with the same id."
