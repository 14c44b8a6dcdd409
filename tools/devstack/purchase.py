"""One sample purchase, shown step by step: each request, its answer and its duration. Any deviation fails it."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import aio_pika
import httpx

from runtime import amqp_nodes
from tools.devstack import processes
from tools.devstack.addresses import Addresses
from tools.devstack.processes import LocalError
from tools.devstack.stack import command_path
from tools.devstack.stack_settings import own_environment
from tools.devstack.terminal import Terminal

BASE: Final = "/api/v1/internal/payments"
# What the Booking Service sends: the end user's identity, with its own role appended.
IDENTITY: Final = {"X-User-Id": "42", "X-User-Name": "asha", "X-User-Roles": "USER,SERVICE_ACCOUNT"}
JSON: Final = {"Content-Type": "application/json"}
# Java's text of the double 3 * 149.99, which means 449.97.
AMOUNT: Final = "449.97000000000003"
EXPECTED_AMOUNT: Final = 449.97
DECLINED_CARD: Final = "4000 0000 0000 0002"
GOOD_CARD: Final = "4242 4242 4242 4242"
# The service asks Stripe about a session at most once a second; sooner it answers from its database.
FRESHNESS_SECONDS: Final = 1.1
OUTCOME_SECONDS: Final = 60.0
LONGEST_URL: Final = 84
PERSON_SECONDS: Final = 900.0
EVENTS: Final = ("com.bookticket.payment.pending.v1", "com.bookticket.payment.completed.v1")


class PurchaseError(LocalError):
    """The sample purchase did not end as it should."""


@dataclass(kw_only=True)
class Purchase:
    """A booking of 449.97, paid at the second attempt."""

    addresses: Addresses
    terminal: Terminal
    # A new booking in every run, because a booking is paid once: the clock's milliseconds.
    booking_id: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    _number: int = field(default=0, init=False)
    _step: str = field(default="", init=False)
    _session_id: str = field(default="", init=False)
    _payment_url: str = field(default="", init=False)

    async def make(self, *, wait_for_person: bool) -> None:
        """Makes the purchase.

        Args:
            wait_for_person: In Stripe's own test mode only a person can pay; False ends the purchase there.

        Raises:
            PurchaseError: A step failed; says which and why.
        """
        self.terminal.title("A sample purchase")
        try:
            connection = await amqp_nodes.connect_to_any(self.addresses.amqp, partial(aio_pika.connect, timeout=10))
            async with connection, httpx.AsyncClient(trust_env=False, timeout=60) as http:
                events = await self._subscribe(connection)
                await self._create(http)
                if self.addresses.sandbox is not None:
                    await self._decline(http, self.addresses.sandbox)
                    await self._verify_pending(http)
                    await self._pay(http, self.addresses.sandbox)
                    await self._verify_completed(http, within_seconds=OUTCOME_SECONDS)
                elif not await self._paid_by_person(http, wait=wait_for_person):
                    return
                await self._show_events(events)
                await self._show_journal(http)
        except (httpx.HTTPError, aio_pika.exceptions.AMQPError, OSError, TimeoutError) as error:
            raise self._failed(f"{type(error).__name__}: {error}") from error

    # --- the steps ----------------------------------------------------------------------------------------------

    async def _subscribe(self, connection: aio_pika.abc.AbstractConnection) -> aio_pika.abc.AbstractQueue:
        self._begin("Another service subscribes to the payment events")
        channel = await connection.channel()
        exchange = await channel.get_exchange("payments.events")
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "payment.#")
        self.terminal.sent("RabbitMQ: a queue of its own, bound to the exchange payments.events with payment.#")
        return queue

    async def _create(self, http: httpx.AsyncClient) -> None:
        self._begin("The Booking Service asks for a checkout, in the words of its Java client")
        members = f'"bookingId": {self.booking_id}, "userId": 42, "amount": {AMOUNT}'
        body = f'{{{members},\n "successUrl": null, "cancelUrl": null}}'
        answer = await self._call(http, "POST", f"{self.addresses.bridge}{BASE}/checkout/create", body)
        self._expect("bookingId", answer.get("bookingId"), self.booking_id)
        self._expect("amount", answer.get("amount"), EXPECTED_AMOUNT)
        self._expect("status", answer.get("status"), "pending")
        self._session_id, self._payment_url = str(answer["sessionId"]), str(answer["paymentUrl"])
        self.terminal.say("   The payer is sent to this page:")
        self.terminal.link(self._payment_url)

    async def _decline(self, http: httpx.AsyncClient, sandbox: str) -> None:
        self._begin("The payer tries a card that the bank declines")
        answer = await self._use_card(http, sandbox, DECLINED_CARD)
        self._expect("the session's status", answer.get("status"), "open")

    async def _verify_pending(self, http: httpx.AsyncClient) -> None:
        self._begin("The Booking Service asks how it went: nothing is lost, the payer may try again")
        await asyncio.sleep(FRESHNESS_SECONDS)
        answer = await self._verify(http)
        self._expect("paymentStatus", answer.get("paymentStatus"), "PENDING")

    async def _pay(self, http: httpx.AsyncClient, sandbox: str) -> None:
        self._begin("The payer takes a good card")
        answer = await self._use_card(http, sandbox, GOOD_CARD)
        self._expect("the session's status", answer.get("status"), "complete")

    async def _verify_completed(self, http: httpx.AsyncClient, *, within_seconds: float) -> None:
        self._begin("The Booking Service asks again and confirms the booking")
        deadline = time.monotonic() + within_seconds
        while True:
            await asyncio.sleep(FRESHNESS_SECONDS)
            answer = await self._verify(http)
            if answer.get("paymentStatus") != "PENDING" or time.monotonic() > deadline:
                break
        self._expect("paymentStatus", answer.get("paymentStatus"), "COMPLETED")
        self._expect("amount", answer.get("amount"), EXPECTED_AMOUNT)

    async def _paid_by_person(self, http: httpx.AsyncClient, *, wait: bool) -> bool:
        """Waits for a payer in Stripe's test mode; False if the purchase is not to wait."""
        self._begin("The payer opens the page above and pays with a test card, such as 4242 4242 4242 4242")
        if not wait:
            self.terminal.say("   Only a person can do that on Stripe's page: `make run` waits for it, this ends here.")
            return False
        deadline = time.monotonic() + PERSON_SECONDS
        with self.terminal.working("waiting for the payer"):
            while time.monotonic() < deadline:
                await asyncio.sleep(2 * FRESHNESS_SECONDS)
                answer = await http.get(self._verify_url(), headers=IDENTITY)
                if answer.status_code == httpx.codes.OK and answer.json().get("paymentStatus") != "PENDING":
                    break
        await self._verify_completed(http, within_seconds=0)
        return True

    async def _show_events(self, queue: aio_pika.abc.AbstractQueue) -> None:
        self._begin("What the subscriber has received meanwhile")
        seen: list[dict[str, Any]] = []
        began = time.monotonic()
        async with asyncio.timeout(OUTCOME_SECONDS):
            async with queue.iterator() as messages:
                async for message in messages:
                    async with message.process():
                        event = json.loads(message.body)
                    if event["data"]["bookingId"] != self.booking_id:
                        continue
                    seen.append(event)
                    self.terminal.received(
                        f"{message.routing_key}  {event['id']}", event["data"], seconds=time.monotonic() - began
                    )
                    if event["type"] == EVENTS[-1]:
                        break
        self._expect("the types of the events", tuple(event["type"] for event in seen), EVENTS)
        self._expect("their sequence", [event["data"]["sequence"] for event in seen], list(range(1, len(seen) + 1)))

    async def _show_journal(self, http: httpx.AsyncClient) -> None:
        self._begin("What an operator sees: the payment and its journal")
        argv = [command_path("payment-service"), "show", f"booking:{self.booking_id}"]
        self.terminal.sent(f"payment-service show booking:{self.booking_id}")
        environment = own_environment() | {"DATABASE_URL": self.addresses.database}
        status, output = await processes.run(argv, env=environment)
        self.terminal.text(output)
        self._expect("the exit status", status, 0)
        if self._session_id not in output:
            raise self._failed("the payment's checkout session is not in it")
        page = await http.get(f"{self.addresses.console}/find?q={self._session_id}", follow_redirects=True)
        if self._session_id not in page.text:
            raise self._failed("the console does not show the payment")
        self.terminal.say("   The same in the console:")
        self.terminal.link(str(page.url))
        self.terminal.say("\nPaid once, known everywhere.", style="green")

    # --- requests and checks ------------------------------------------------------------------------------------

    async def _use_card(self, http: httpx.AsyncClient, sandbox: str, card: str) -> dict[str, Any]:
        url = f"{sandbox}/_sandbox/sessions/{self._session_id}/pay"
        return await self._call(http, "POST", url, json.dumps({"card": card}), show=("status", "payment_status"))

    async def _verify(self, http: httpx.AsyncClient) -> dict[str, Any]:
        return await self._call(http, "GET", self._verify_url())

    def _verify_url(self) -> str:
        return f"{self.addresses.bridge}{BASE}/checkout/verify/{self._session_id}"

    async def _call(
        self, http: httpx.AsyncClient, method: str, url: str, body: str | None = None, *, show: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Sends a request and prints it with its answer; `show` names the members to print, all if empty."""
        self.terminal.sent(f"{method} {_short(url)}", body)
        began = time.monotonic()
        response = await http.request(method, url, content=body, headers=IDENTITY | JSON)
        seconds = time.monotonic() - began
        try:
            answer = response.json()
        except ValueError:
            raise self._failed(f"{method} {url} answered {response.status_code} without JSON") from None
        shown = {name: answer.get(name) for name in show} if show and response.is_success else answer
        source = response.headers.get("X-Payment-Status-Source")
        self.terminal.received(
            f"{response.status_code}{f', asked: {source}' if source else ''}", shown, seconds=seconds
        )
        if response.status_code != httpx.codes.OK or not isinstance(answer, dict):
            raise self._failed(f"{method} {url} answered {response.status_code} instead of 200")
        return answer

    def _begin(self, text: str) -> None:
        self._number += 1
        self._step = text
        self.terminal.step(self._number, text)

    def _expect(self, what: str, actual: object, expected: object) -> None:
        if actual != expected:
            raise self._failed(f"{what} should be {expected!r} and is {actual!r}")

    def _failed(self, why: str) -> PurchaseError:
        return PurchaseError(f"The sample purchase failed at step {self._number} ({self._step}): {why}.")


def _short(url: str) -> str:
    return url if len(url) <= LONGEST_URL else f"{url[: LONGEST_URL - 3]}..."
