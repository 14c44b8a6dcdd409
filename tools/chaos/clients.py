"""The simulated clients: a closed loop of buyers who act like the Booking Service, other services and payers."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import aio_pika
import aiohttp
from aio_pika.abc import AbstractChannel, AbstractRobustConnection

from contracts import envelope, topology
from contracts.commands import CommandType
from runtime.aio import Backoff
from tools.chaos.plan import Buyer, Payer, Strategy
from tools.chaos.wishes import Attempt, Command, Operation

PATH = "/api/v1/internal/payments"
WHO = {"X-User-Id": "7", "X-User-Roles": "USER,SERVICE_ACCOUNT"}
OTHER_MINOR = 1_000_001
"""More than any buyer is asked for."""
_GOOD = ("pay", {"card": "4242 4242 4242 4242"})
ACTS: dict[Payer, tuple[tuple[str, dict[str, Any]], ...]] = {
    Payer.GOOD: (_GOOD,),
    Payer.SECOND_CARD: (("pay", {"card": "4000 0000 0000 0002"}), _GOOD),
    Payer.SECURE: (("pay", {"card": "4000 0000 0000 3220", "authentication": "complete"}),),
    Payer.SLOW_MONEY: (("settle", {"outcome": "unpaid"}), ("settle", {"outcome": "paid"})),
    Payer.DIFFERENT: (("settle", {"outcome": "paid", "amount_total": OTHER_MINOR}),),
    Payer.REFUNDED: (_GOOD, ("refund", {"amount": 100}), ("refund", {})),
    Payer.DISPUTED: (_GOOD, ("dispute", {})),
    Payer.NEVER: (),
}
"""What happens to the session, in the words of the sandbox's control API."""
PAUSES = {Payer.SLOW_MONEY}
"""Payers between whose acts some time passes."""
CLOSING_SECONDS = 2.0
PATIENCE_SECONDS = 30.0
"""How long a client repeats one operation before it gives up."""
ATTEMPT_SECONDS = 15.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.3, 3.0
PUBLISH_SECONDS = 5.0


class Buyers:
    """Plays the buyers of a plan and records every answer."""

    def __init__(
        self,
        *,
        bridges: list[str],
        sandbox: str,
        amqp_url: str,
        operate: Callable[..., Awaitable[tuple[int, str]]],
        started: float,
    ) -> None:
        self.operations: list[Operation] = []
        self.commands: list[Command] = []
        self.under_way = 0
        self._bridges = bridges
        self._sandbox = sandbox
        self._amqp_url = amqp_url
        self._operate = operate
        self._started = started
        self._http: aiohttp.ClientSession
        self._connection: AbstractRobustConnection | None = None
        self._channel: AbstractChannel | None = None

    async def play(self, buyers: list[Buyer], *, at_once: int, until: float) -> int:
        """Runs at most `at_once` buyers at a time and starts none after `until`; the number of buyers that ran."""
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
        for kind, details in ACTS[buyer.payer]:
            await self._act(kind, buyer, session, details)
            if buyer.payer in PAUSES:
                await asyncio.sleep(buyer.think_seconds)
        for _ in range(buyer.polls):
            verified = await self._read("verify", buyer, session)
            if verified.answer.get("paymentStatus") in {"COMPLETED", "FAILED"}:
                break
            await asyncio.sleep(0.7)
        await self._read("status", buyer, session)
        if buyer.payer is Payer.DIFFERENT and buyer.is_closed and await self._close(buyer, session):
            await self._read("verify", buyer, session)

    async def _checkout(self, buyer: Buyer) -> str | None:
        """The session id that the client received, if any."""
        key = f"key-{buyer.booking}"
        made: Operation | None
        match buyer.way:
            case Strategy.PLAIN:
                made = await self._create(buyer)
            case Strategy.KEYED:
                made = await self._create(buyer, key=key)
            case Strategy.AGAIN:
                await self._create(buyer)
                made = await self._create(buyer, bridge=buyer.other_bridge)
            case Strategy.CHANGED:
                made = await self._change(buyer)
            case Strategy.DROPPED:
                await self._drop(buyer, key)
                made = await self._create(buyer, key=key, bridge=buyer.other_bridge)
            case Strategy.DESERTED:
                await self._drop(buyer, None)
                return None
            case Strategy.TWINS:
                both = (self._create(buyer, key=key, bridge=bridge) for bridge in range(2))
                made, _ = await asyncio.gather(*both)
            case Strategy.CLOSED:
                made = await self._create_after_close(buyer)
            case Strategy.MESSAGE | Strategy.COPIES:
                await self._send(buyer, copies=3 if buyer.way is Strategy.COPIES else 1)
                await asyncio.sleep(buyer.think_seconds)
                made = await self._create(buyer) if buyer.asks else None
        session: str | None = made.answer.get("sessionId") if made is not None and made.acknowledged else None
        return session

    async def _create(
        self, buyer: Buyer, *, key: str | None = None, bridge: int | None = None, other: bool = False
    ) -> Operation:
        minor = buyer.other_minor if other else buyer.minor
        operation = self._begin("create", buyer, minor=minor)
        request = self._post(buyer, key, other=other)
        return await self._repeat(operation, request, buyer.bridge if bridge is None else bridge)

    async def _change(self, buyer: Buyer) -> Operation:
        """Creates with another amount for the same booking, while a payer uses the old page."""
        old = await self._create(buyer)
        made = await self._create(buyer, other=True, bridge=buyer.other_bridge)
        if old.acknowledged and made.acknowledged:
            await self._act("pay", buyer, old.answer["sessionId"], _GOOD[1])
        return made

    async def _create_after_close(self, buyer: Buyer) -> Operation:
        """Creates, and again once an operator has ended the first checkout."""
        made = await self._create(buyer)
        if not made.acknowledged or not await self._close(buyer, made.answer["sessionId"]):
            return made
        await self._read("verify", buyer, made.answer["sessionId"])
        return await self._create(buyer)

    async def _drop(self, buyer: Buyer, key: str | None) -> None:
        """Sends a create and closes the socket before or while it is answered."""
        operation = self._begin("create", buyer, minor=buyer.minor, deserted=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(buyer.drop_seconds):
                await self._attempt(operation, self._post(buyer, key), self._bridges[buyer.bridge])

    async def _read(self, kind: str, buyer: Buyer, session: str) -> Operation:
        operation = self._begin(kind, buyer, asked=session)
        path = f"{PATH}/checkout/verify/{session}" if kind == "verify" else f"{PATH}/status/{session}"
        return await self._repeat(operation, {"method": "GET", "path": path}, buyer.bridge)

    async def _act(self, kind: str, buyer: Buyer, session: str, details: dict[str, Any]) -> None:
        """Something happens at Stripe, past every proxy: faults do not affect the payer's browser."""
        request = {"method": "POST", "path": f"/_sandbox/sessions/{session}/{kind}", "json": details}
        await self._attempt(self._begin(kind, buyer, asked=session), request, self._sandbox)

    async def _close(self, buyer: Buyer, session: str) -> bool:
        """Whether an operator has closed the payment; its command is repeated as `_repeat` does."""
        operation = self._begin("close", buyer, asked=session)
        arguments = ("close", session, "--reason", "no longer wanted", "--by", "chaos", "--json")
        while not operation.acknowledged and self.now() - operation.began < PATIENCE_SECONDS:
            at = self.now()
            status, output = await self._operate(*arguments)
            code = HTTPStatus.CONFLICT if status else HTTPStatus.OK
            operation.attempts.append(Attempt(at=at, seconds=self.now() - at, status=code))
            with suppress(ValueError, IndexError):
                operation.answer = json.loads(output.splitlines()[-1])
            if status:
                await asyncio.sleep(CLOSING_SECONDS)
        return operation.acknowledged

    def _begin(self, kind: str, buyer: Buyer, **more: Any) -> Operation:
        operation = Operation(kind=kind, booking=buyer.booking, began=self.now(), **more)
        self.operations.append(operation)
        return operation

    # --- HTTP -------------------------------------------------------------------------------------------------------

    def _post(self, buyer: Buyer, key: str | None, *, other: bool = False) -> dict[str, Any]:
        amount = buyer.other_amount if other else buyer.amount
        content = f'{{"bookingId":{buyer.booking},"userId":7,"amount":{amount},"successUrl":null,"cancelUrl":null}}'
        headers = {"Content-Type": "application/json"} | ({} if key is None else {"Idempotency-Key": key})
        return {"method": "POST", "path": f"{PATH}/checkout/create", "data": content, "headers": headers}

    async def _repeat(self, operation: Operation, request: dict[str, Any], bridge: int) -> Operation:
        """Repeats until a final answer, alternating between the bridges as a load balancer does."""
        backoff = Backoff(first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)
        for number in range(100):
            wait = await self._attempt(operation, request, self._bridges[(bridge + number) % 2])
            if wait is None or self.now() - operation.began > PATIENCE_SECONDS:
                break
            await asyncio.sleep(wait or backoff.next_seconds())
        return operation

    async def _attempt(self, operation: Operation, request: dict[str, Any], base: str) -> float | None:
        """None after a final answer; else the seconds to wait before a retry, 0 if the client may choose."""
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
            is_retryable = operation.answer.get("retryable", status >= HTTPStatus.INTERNAL_SERVER_ERROR)
            if status == HTTPStatus.OK or not is_retryable:
                wait = None
        finally:
            operation.attempts.append(Attempt(at=at, seconds=self.now() - at, status=status, error=error))
        return wait

    # --- messages ---------------------------------------------------------------------------------------------------

    async def _send(self, buyer: Buyer, *, copies: int) -> None:
        """Sends a command without a reply address, again and again with the same id until the broker confirms it."""
        command = Command(
            message_id=f"command-{buyer.booking}", booking=buyer.booking, minor=buyer.minor, at=self.now()
        )
        self.commands.append(command)
        operation = self._begin("command", buyer, minor=buyer.minor)
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
                error = type(caught).__name__  # aiormq raises this in waiters of a lost connection
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
