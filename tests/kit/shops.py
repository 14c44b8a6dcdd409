"""What the scenarios of create and verify run on: a backend, of which the fakes are one."""

import asyncio
import itertools
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from contracts import body, envelope
from service.application import translation
from service.application.translation import StateReply
from service.domain.errors import PaymentServiceError
from service.domain.money import Money
from service.domain.outcomes import Expired, Open, Outcome, Processing, Refused, UnknownCause
from service.domain.payment import LastOutcome, Payment
from tests.kit.service import context
from tests.kit.world import World

BOOKINGS = itertools.count(os.getpid() * 1_000_000 + 900_001)
"""Bookings that no other scenario has."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A reply or a fault, as it is written to the caller.

    `source` is who knew the answer to a verify, `attention` why a person must look.
    """

    document: Mapping[str, Any]
    source: str | None = None
    attention: str | None = None

    @property
    def session(self) -> str:
        return str(self.document["sessionId"])

    @property
    def status(self) -> str:
        return str(self.document["paymentStatus"])

    @property
    def fault(self) -> tuple[Any, Any]:
        """Its code, and whether the caller may repeat the command; None and None for a reply."""
        return self.document.get("code"), self.document.get("retryable")


def of_headers(headers: Mapping[str, Any]) -> dict[str, str | None]:
    """What the headers of a reply say."""
    names = {"source": envelope.STATUS_SOURCE, "attention": envelope.ATTENTION}
    return {member: headers.get(name) for member, name in names.items()}


class Shop(Protocol):
    """One service or several replicas, a provider and a payer. Payments, events and sessions are those of a booking."""

    can_control: ClassVar[bool]
    """Whether it can move all clocks, and let the provider refuse payments."""
    replicas: ClassVar[int]
    troubles: Mapping[str, str]
    """How the provider can fail, and the code of the fault that a create gets then."""
    conflicts: ClassVar[frozenset[str]]
    """Faults of creates for one content on several replicas: the provider refuses a key whose first call still runs."""
    booking: int

    async def create(self, **sent: Any) -> Answer:
        """`replica`, `message_id`, `key`, `caller`, `seconds` (until the caller's deadline), and the body's members.

        Where the clocks are controlled, `sent_seconds_ago` too.
        """

    async def verify(self, session: str, *, replica: int = 0) -> Answer: ...
    async def status(self, session: str) -> Answer: ...
    async def sweep(self, session: str, *, replica: int) -> None: ...
    async def drain(self) -> None:
        """Wait for what goes on after its caller has left."""

    async def pay(self, session: str) -> None: ...
    async def pay_differently(self, session: str) -> None:
        """Another amount arrives than was asked for."""

    async def begin_to_pay(self, session: str) -> None:
        """The payer is done, and the money has not arrived."""

    async def let_expire(self, session: str) -> None: ...
    async def fail(self, trouble: str | None) -> None: ...
    async def lose_answer(self) -> None:
        """The next create does its work, and its answer is lost."""

    async def refuse(self, *, payments: bool) -> None: ...
    async def advance(self, seconds: float) -> None: ...
    def set_rules(self, *, replica: int, **rules: Any) -> None:
        """Let a replica run with other settings from here on."""

    def slow(self) -> AbstractAsyncContextManager[float]:
        """Meanwhile the provider answers no call; the deadline of a caller who leaves before it does."""

    async def payments(self) -> Sequence[Any]: ...
    async def events(self) -> Sequence[str]:
        """The routing keys, in order."""

    async def calls(self) -> Counter[str]:
        """So far, of all bookings: open, look_up and expire."""

    async def sessions(self) -> Mapping[str, str]:
        """The state of each at the provider: open, complete or expired."""


class Replicas:
    """The handlers themselves in several worlds, behind no broker."""

    can_control: ClassVar = True
    worlds: Sequence[World]
    clock: Any

    def __init__(self) -> None:
        self.booking = next(BOOKINGS)

    async def create(
        self,
        *,
        replica: int = 0,
        message_id: str | None = None,
        key: str | None = None,
        caller: str = "a",
        seconds: float | None = None,
        sent_seconds_ago: float | None = None,
        **members: Any,
    ) -> Answer:
        sent = context(idempotency_key=key, caller=caller, **self._until(seconds))
        if sent_seconds_ago is not None:
            sent = replace(sent, sent_at=self.clock.now() - timedelta(seconds=sent_seconds_ago))
        if message_id is not None:
            sent = replace(sent, message_id=message_id)
        return await _answer(self.worlds[replica].create(sent=sent, **{"bookingId": self.booking} | members))

    def _until(self, seconds: float | None) -> dict[str, Any]:
        return {} if seconds is None else {"deadline": self.clock.now() + timedelta(seconds=seconds)}

    async def verify(self, session: str, *, replica: int = 0, seconds: float | None = None) -> Answer:
        return await _state(self.worlds[replica].verify(session, context(**self._until(seconds))))

    async def sweep(self, session: str, *, replica: int) -> None:
        """What a sweeper does with a payment that it has claimed, and perhaps another as well."""
        world = self.worlds[replica]
        payment = await world.store.payment_of_session(session)
        with suppress(PaymentServiceError):
            await world.checkout.finish(payment, context=context())

    async def status(self, session: str) -> Answer:
        return await _state(self.worlds[0].status(session))

    def set_rules(self, *, replica: int, **rules: Any) -> None:
        world = self.worlds[replica]
        changed = world.replica(policy=replace(world.policy, **rules))
        self.worlds = [changed if number == replica else each for number, each in enumerate(self.worlds)]

    async def drain(self) -> None:
        for world in self.worlds:
            await world.drain()


async def _answer(record: Awaitable[BaseModel]) -> Answer:
    try:
        answered = await record
    except PaymentServiceError as error:
        answered = translation.fault(error)
    return Answer(document=json.loads(body.write(answered)))


async def _state(reply: Awaitable[StateReply]) -> Answer:
    headers: dict[str, str] = {}

    async def state() -> BaseModel:
        found, known = await reply
        headers.update(known)
        return found

    answer = await _answer(state())
    return Answer(document=answer.document, **of_headers(headers))


class Fakes(Replicas):
    replicas: ClassVar = 5
    conflicts: ClassVar = frozenset[str]()
    troubles = MappingProxyType(
        {
            UnknownCause.TIMEOUT: "DEADLINE_EXCEEDED",
            UnknownCause.FAILED: "GATEWAY_ERROR",
            UnknownCause.BUSY: "SERVICE_UNAVAILABLE",
            UnknownCause.DENIED: "GATEWAY_ERROR",
            UnknownCause.MISCONFIGURED: "GATEWAY_ERROR",
            UnknownCause.UNREADABLE: "GATEWAY_ERROR",
        }
    )

    def __init__(self, **parts: Any) -> None:
        """`parts`: of the first world."""
        super().__init__()
        world = World(**parts)
        self.clock, self.gateway, self.store = world.clock, world.gateway, world.store
        self.worlds = [world, *(world.replica() for _ in range(self.replicas - 1))]

    async def pay(self, session: str) -> None:
        self.gateway.pay(session)

    async def pay_differently(self, session: str) -> None:
        self.gateway.pay(session, money=Money(1, "inr"))

    async def begin_to_pay(self, session: str) -> None:
        self.gateway.stand(session, Processing())

    async def let_expire(self, session: str) -> None:
        self.gateway.let_expire(session)

    async def fail(self, trouble: str | None) -> None:
        self.gateway.fault = None if trouble is None else UnknownCause(trouble)

    async def lose_answer(self) -> None:
        self.gateway.lost_answers = 1

    async def refuse(self, *, payments: bool) -> None:
        self.gateway.refusal = (
            Refused(detail="code amount_too_small", cause=LastOutcome.AMOUNT_TOO_SMALL) if payments else None
        )

    async def advance(self, seconds: float) -> None:
        """As at Stripe, sessions end by themselves, and a new one must not end within half an hour."""
        now = self.clock.advance(seconds)
        self.gateway.refuses_end_before = now + timedelta(minutes=30)
        for session_id, session in self.gateway.made.items():
            if isinstance(session.stands, Open) and session.payment.expires_at <= now:
                self.gateway.let_expire(session_id)

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[float]:
        self.gateway.silent = asyncio.Event()
        yield 0.02
        self.gateway.silent.set()

    async def payments(self) -> list[Payment]:
        return [each for each in self.store.payments.values() if each.booking_id == self.booking]

    async def events(self) -> list[str]:
        mine = [event for event in self.store.outbox.events if event.data.booking_id == self.booking]
        return [event.type.removeprefix("com.bookticket.").removesuffix(".v1") for event in mine]

    async def calls(self) -> Counter[str]:
        return Counter(self.gateway.calls)

    async def sessions(self) -> dict[str, str]:
        states: dict[type[Outcome], str] = {Open: "open", Expired: "expired"}
        mine = {name: made for name, made in self.gateway.made.items() if made.payment.booking_id == self.booking}
        return {session_id: states.get(type(session.stands), "complete") for session_id, session in mine.items()}
