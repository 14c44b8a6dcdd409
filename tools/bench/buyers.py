"""Buyers in a rush: each creates a checkout, pays a little later, and polls until the payment is COMPLETED."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from tools.bench.bare_sdk import LIMITED
from tools.bench.load_generator import OK, Http, Latencies, bookings

PAY_AFTER_SECONDS = (5.0, 20.0)
POLL_SECONDS = 2.0
EARLY_POLLS = 15
"""How often the Booking Service polls for a user who returns before paying."""
COME_BACK_SECONDS = 1.0
"""The delay before its HTTP client repeats a 429 or 503 without `Retry-After`."""
BEGIN_ANEW_SECONDS = 2.0
UNAVAILABLE = 503


class Shop(Protocol):
    """Where buyers buy: our system or a baseline."""

    async def create(self, booking: int) -> tuple[int, str, float | None]:
        """HTTP status, session, and the seconds of `Retry-After`."""

    async def verify(self, session: str) -> tuple[int, bool]:
        """HTTP status, and whether the payment is COMPLETED."""


class BridgeShop:
    """Our system, over the bridge's REST interface."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def create(self, booking: int) -> tuple[int, str, float | None]:
        answer = await self._http.create(booking)
        wait = answer.header("Retry-After")
        session = answer.body["sessionId"] if answer.status == OK else ""
        return answer.status, session, None if wait is None else float(wait)

    async def verify(self, session: str) -> tuple[int, bool]:
        answer = await self._http.verify(session)
        return answer.status, answer.status == OK and answer.body["paymentStatus"] == "COMPLETED"


@dataclass(kw_only=True)
class Buyer:
    """The history of one buyer; times are of time.perf_counter()."""

    due: float
    refusals: int = 0
    errors: int = 0
    """How often the checkout failed and the buyer began anew with another booking."""
    session: str = ""
    checkout_at: float | None = None
    paid_at: float | None = None
    completed_at: float | None = None


@dataclass(kw_only=True)
class Crowd:
    """`count` buyers arrive at random moments of `seconds`; `early` of them also poll before they pay."""

    shop: Shop
    pay: Callable[[str], Awaitable[bool]]
    count: int
    seconds: float
    early: int = 0
    pay_after_seconds: tuple[float, float] = PAY_AFTER_SECONDS
    begin_anew_seconds: float = BEGIN_ANEW_SECONDS
    patience_seconds: float = 120.0
    """How long the run may continue after the last arrival."""
    seed: int = 20
    buyers: list[Buyer] = field(default_factory=list)
    verifies: Latencies = field(default_factory=Latencies)
    verify_statuses: Counter[int] = field(default_factory=Counter)
    create_statuses: Counter[int] = field(default_factory=Counter)

    async def run(self) -> None:
        rng = random.Random(self.seed)  # noqa: S311 - the same crowd in each run
        began = time.perf_counter() + 0.1
        arrivals = sorted(rng.uniform(0, self.seconds) for _ in range(self.count))
        self.buyers = [Buyer(due=began + arrival) for arrival in arrivals]
        early = set(rng.sample(range(self.count), self.early))
        try:
            async with asyncio.timeout(self.seconds + self.patience_seconds), asyncio.TaskGroup() as group:
                for number, buyer in enumerate(self.buyers):
                    thinks = rng.uniform(*self.pay_after_seconds)
                    group.create_task(self._buy(buyer, thinks, polls_early=number in early))
        except TimeoutError:
            pass  # unfinished buyers are counted

    def waiting(self, now: float) -> int:
        """Buyers who have arrived and have no checkout yet."""
        return sum(buyer.due <= now and buyer.checkout_at is None for buyer in self.buyers)

    async def _buy(self, buyer: Buyer, thinks: float, *, polls_early: bool) -> None:
        await _until(buyer.due)
        buyer.checkout_at = began = await self._checkout(buyer)
        polls = asyncio.create_task(self._poll(buyer.session, began)) if polls_early else None
        try:
            await _until(began + thinks)
            if await self.pay(buyer.session):
                buyer.paid_at = time.perf_counter()
                await self._poll_until_completed(buyer, buyer.paid_at)
            if polls is not None:
                await polls
        finally:
            if polls is not None:
                polls.cancel()

    async def _checkout(self, buyer: Buyer) -> float:
        """As the Booking Service: its client repeats a refusal once; after any other failure the user begins anew."""
        while True:
            booking = next(bookings)
            status, session, wait = await self._create(buyer, booking)
            if status in {LIMITED, UNAVAILABLE}:
                await asyncio.sleep(COME_BACK_SECONDS if wait is None else wait)
                status, session, _ = await self._create(buyer, booking)
            if status == OK:
                buyer.session = session
                return time.perf_counter()
            buyer.errors += 1
            await asyncio.sleep(self.begin_anew_seconds)

    async def _create(self, buyer: Buyer, booking: int) -> tuple[int, str, float | None]:
        answer = await self.shop.create(booking)
        self.create_statuses[answer[0]] += 1
        buyer.refusals += answer[0] in {LIMITED, UNAVAILABLE}
        return answer

    async def _poll_until_completed(self, buyer: Buyer, due: float) -> None:
        """Polls at once and then every two seconds."""
        while not await self._verify(buyer.session, due):
            due = time.perf_counter() + POLL_SECONDS
            await _until(due)
        buyer.completed_at = time.perf_counter()

    async def _poll(self, session: str, due: float) -> None:
        for _ in range(EARLY_POLLS):
            await self._verify(session, due)
            due = time.perf_counter() + POLL_SECONDS
            await _until(due)

    async def _verify(self, session: str, due: float) -> bool:
        status, completed = await self.shop.verify(session)
        self.verify_statuses[status] += 1
        if status == OK:
            self.verifies.record(time.perf_counter() - due)
        return completed


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.perf_counter()))
