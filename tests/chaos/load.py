"""The buyers: a closed loop of clients that behave like the Booking Service, other services and people with cards."""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aio_pika
import aiohttp
from aio_pika.abc import AbstractChannel, AbstractRobustConnection

from contracts import envelope, topology
from contracts.commands import CommandType
from tests.chaos.plan import Buyer, Payer, Way

PATH = "/api/v1/internal/payments"
WHO = {"X-User-Id": "7", "X-User-Roles": "USER,SERVICE_ACCOUNT"}
CARDS = {
    Payer.GOOD: ({"card": "4242 4242 4242 4242"},),
    Payer.SECOND_CARD: ({"card": "4000 0000 0000 0002"}, {"card": "4242 4242 4242 4242"}),
    Payer.SECURE: ({"card": "4000 0000 0000 3220", "authentication": "complete"},),
    Payer.NEVER: (),
}
PATIENCE_SECONDS = 30.0
"""How long a client repeats one operation before it gives up."""
ATTEMPT_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 3.0
PUBLISH_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One request, seconds from the start of the load; `status` 0 with the `error` that came instead of an answer."""

    at: float
    seconds: float
    status: int
    error: str = ""


@dataclass(kw_only=True)
class Operation:
    """What a client wanted, with all its attempts. Acknowledged means a 2xx; `answer` is that body, or the last."""

    kind: str
    booking: int
    began: float
    minor: int = 0
    asked: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    answer: dict[str, Any] = field(default_factory=dict)
    deserted: bool = False

    @property
    def status(self) -> int:
        return self.attempts[-1].status if self.attempts else 0

    @property
    def acknowledged(self) -> bool:
        return 200 <= self.status < 300

    @property
    def recovered(self) -> bool:
        """Acknowledged in the end, after an attempt that was not."""
        return self.acknowledged and any(not 200 <= attempt.status < 300 for attempt in self.attempts)

    @property
    def ended(self) -> float:
        return self.attempts[-1].at + self.attempts[-1].seconds if self.attempts else self.began


@dataclass(kw_only=True)
class Command:
    """A fire-and-forget create; `confirmed` by the broker, which from then on answers for it."""

    message_id: str
    booking: int
    minor: int
    confirmed: bool = False


class Buyers:
    """Plays the buyers of a plan and remembers everything that they were told."""

    def __init__(self, *, bridges: list[str], sandbox: str, amqp_url: str, started: float) -> None:
        self.operations: list[Operation] = []
        self.commands: list[Command] = []
        self.under_way = 0
        self._bridges = bridges
        self._sandbox = sandbox
        self._amqp_url = amqp_url
        self._started = started
        self._http: aiohttp.ClientSession
        self._connection: AbstractRobustConnection | None = None
        self._channel: AbstractChannel | None = None

    async def play(self, buyers: list[Buyer], *, at_once: int, until: float) -> int:
        """Let at most `at_once` buyers act at a time; none begins after `until`. How many there were."""
        queue = iter(buyers)
        done = 0

        async def one_after_another() -> None:
            nonlocal done
            for buyer in queue:
                await asyncio.sleep(max(0.0, buyer.at - self.now()))
                if self.now() > until:
                    return
                self.under_way += 1
                try:
                    await self._buy(buyer)
                finally:
                    self.under_way -= 1
                    done += 1

        limits = aiohttp.ClientTimeout(total=ATTEMPT_SECONDS)
        async with aiohttp.ClientSession(timeout=limits, connector=aiohttp.TCPConnector(limit=0)) as self._http:
            try:
                await asyncio.gather(*(one_after_another() for _ in range(at_once)))
            finally:
                if self._connection is not None:
                    await self._connection.close()
        return done

    def now(self) -> float:
        """Seconds from the start of the load."""
        return time.monotonic() - self._started

    # --- one buyer --------------------------------------------------------------------------------------------------

    async def _buy(self, buyer: Buyer) -> None:
        session = await self._checkout(buyer)
        if session is None:
            return
        await asyncio.sleep(buyer.think_seconds)
        for card in CARDS[buyer.payer]:
            await self._pay(buyer, session, card)
        for _ in range(buyer.polls):
            verified = await self._read("verify", buyer, session)
            if verified.answer.get("paymentStatus") in {"COMPLETED", "FAILED"}:
                break
            await asyncio.sleep(0.7)
        await self._read("status", buyer, session)

    async def _checkout(self, buyer: Buyer) -> str | None:
        """The session that the client was told, if it was."""
        key = f"key-{buyer.booking}"
        match buyer.way:
            case Way.PLAIN:
                made = await self._create(buyer)
            case Way.KEYED:
                made = await self._create(buyer, key=key)
            case Way.AGAIN:
                await self._create(buyer)
                made = await self._create(buyer, bridge=buyer.other_bridge)
            case Way.CHANGED:
                made = await self._change(buyer)
            case Way.DROPPED:
                await self._drop(buyer, key)
                made = await self._create(buyer, key=key, bridge=buyer.other_bridge)
            case Way.DESERTED:
                await self._drop(buyer, None)
                return None
            case Way.TWINS:
                both = (self._create(buyer, key=key, bridge=bridge) for bridge in range(2))
                made, _ = await asyncio.gather(*both)
            case Way.MESSAGE | Way.COPIES:
                await self._send(buyer, copies=3 if buyer.way is Way.COPIES else 1)
                if not buyer.asks:
                    return None
                await asyncio.sleep(buyer.think_seconds)
                made = await self._create(buyer)
        session: str | None = made.answer.get("sessionId") if made.acknowledged else None
        return session

    async def _create(
        self, buyer: Buyer, *, key: str | None = None, bridge: int | None = None, other: bool = False
    ) -> Operation:
        minor = buyer.other_minor if other else buyer.minor
        operation = Operation(kind="create", booking=buyer.booking, began=self.now(), minor=minor)
        request = self._post(buyer, key, other=other)
        return await self._repeat(operation, request, buyer.bridge if bridge is None else bridge)

    async def _change(self, buyer: Buyer) -> Operation:
        """Another amount for the same booking; and a payer whose browser still shows the old page."""
        old = await self._create(buyer)
        made = await self._create(buyer, other=True, bridge=buyer.other_bridge)
        if old.acknowledged and made.acknowledged:
            await self._pay(buyer, old.answer["sessionId"], CARDS[Payer.GOOD][0])
        return made

    async def _drop(self, buyer: Buyer, key: str | None) -> None:
        """Send a create and close the socket before, or while, it is answered."""
        operation = Operation(kind="create", booking=buyer.booking, began=self.now(), minor=buyer.minor, deserted=True)
        self.operations.append(operation)
        with suppress(TimeoutError):
            async with asyncio.timeout(buyer.drop_seconds):
                await self._attempt(operation, self._post(buyer, key), self._bridges[buyer.bridge])

    async def _read(self, kind: str, buyer: Buyer, session: str) -> Operation:
        operation = Operation(kind=kind, booking=buyer.booking, began=self.now(), asked=session)
        path = f"{PATH}/checkout/verify/{session}" if kind == "verify" else f"{PATH}/status/{session}"
        return await self._repeat(operation, {"method": "GET", "path": path}, buyer.bridge)

    async def _pay(self, buyer: Buyer, session: str, card: dict[str, str]) -> None:
        """At Stripe, past every proxy: the payer's browser is none of our links."""
        operation = Operation(kind="pay", booking=buyer.booking, began=self.now(), asked=session)
        self.operations.append(operation)
        await self._attempt(
            operation, {"method": "POST", "path": f"/_sandbox/sessions/{session}/pay", "json": card}, self._sandbox
        )

    # --- HTTP -------------------------------------------------------------------------------------------------------

    def _post(self, buyer: Buyer, key: str | None, *, other: bool = False) -> dict[str, Any]:
        amount = buyer.other_amount if other else buyer.amount
        content = f'{{"bookingId":{buyer.booking},"userId":7,"amount":{amount},"successUrl":null,"cancelUrl":null}}'
        headers = {"Content-Type": "application/json"} | ({} if key is None else {"Idempotency-Key": key})
        return {"method": "POST", "path": f"{PATH}/checkout/create", "data": content, "headers": headers}

    async def _repeat(self, operation: Operation, request: dict[str, Any], bridge: int) -> Operation:
        """Until it is answered for good, at one bridge and then the other, as a load balancer would have it."""
        self.operations.append(operation)
        pause = 0.3
        for number in range(100):
            wait = await self._attempt(operation, request, self._bridges[(bridge + number) % 2])
            if wait is None or self.now() - operation.began > PATIENCE_SECONDS:
                break
            await asyncio.sleep(wait or pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        return operation

    async def _attempt(self, operation: Operation, request: dict[str, Any], base: str) -> float | None:
        """None if that was the answer; else the seconds to wait before a repeat, 0 if the client may choose."""
        at = self.now()
        status, error, wait = 0, "", None
        options = {**request, "headers": {**WHO, **request.get("headers", {})}}
        method, path = options.pop("method"), options.pop("path")
        try:
            async with self._http.request(method, f"{base}{path}", **options) as response:
                body = await response.read()
                status = response.status
                wait = float(response.headers.get("Retry-After", 0))
        except (aiohttp.ClientError, TimeoutError, OSError) as caught:
            error, wait = type(caught).__name__, 0.0
        except asyncio.CancelledError:
            error = "left"
            raise
        else:
            with suppress(ValueError):
                operation.answer = json.loads(body)
            if status == 200 or not operation.answer.get("retryable", status >= 500):
                wait = None
        finally:
            operation.attempts.append(Attempt(at=at, seconds=self.now() - at, status=status, error=error))
        return wait

    # --- messages ---------------------------------------------------------------------------------------------------

    async def _send(self, buyer: Buyer, *, copies: int) -> None:
        """A command without a reply address, repeated with the same id until the broker has confirmed it."""
        command = Command(message_id=f"command-{buyer.booking}", booking=buyer.booking, minor=buyer.minor)
        self.commands.append(command)
        operation = Operation(kind="command", booking=buyer.booking, began=self.now(), minor=buyer.minor)
        self.operations.append(operation)
        sent = 0
        while sent < copies and self.now() - operation.began < PATIENCE_SECONDS:
            at, error = self.now(), ""
            try:
                async with asyncio.timeout(PUBLISH_SECONDS):
                    await self._publish(command, buyer.amount)
            except (aio_pika.exceptions.AMQPError, OSError, TimeoutError, RuntimeError) as caught:
                error = type(caught).__name__
            except asyncio.CancelledError as caught:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                error = type(caught).__name__  # aiormq ends what waits on a lost connection with this exception
            operation.attempts.append(Attempt(at=at, seconds=self.now() - at, status=0 if error else 202, error=error))
            if error:
                await asyncio.sleep(0.5)
                continue
            command.confirmed = True
            sent += 1

    async def _publish(self, command: Command, amount: str) -> None:
        if self._channel is None or self._channel.is_closed:
            if self._connection is None:
                self._connection = await aio_pika.connect_robust(self._amqp_url, reconnect_interval=0.5, timeout=3)
            self._channel = await self._connection.channel(publisher_confirms=True)
        exchange = await self._channel.get_exchange(topology.COMMANDS.name, ensure=False)
        content = f'{{"bookingId":{command.booking},"userId":7,"amount":{amount}}}'
        message = aio_pika.Message(
            content.encode(),
            message_id=command.message_id,
            correlation_id=command.message_id,
            content_type=envelope.CONTENT_TYPE,
            type=CommandType.CREATE_CHECKOUT.value,
            timestamp=int(time.time()),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            headers={envelope.REQUEST_ID: command.message_id},
        )
        await exchange.publish(message, routing_key=CommandType.CREATE_CHECKOUT.value, mandatory=True)
