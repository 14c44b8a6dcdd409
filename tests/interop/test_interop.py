"""The bridge with real Java: Netflix's Eureka server and Spring Cloud's load-balanced client with its caches."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

from tests.integration.service.crash.programs import Program
from tests.interop.conftest import PASSWORD, Platform
from tests.kit.until import until
from tools.devstack.processes import read_text

pytestmark = pytest.mark.asyncio(loop_scope="module")
_log = logging.getLogger(__name__)

CACHES_SECONDS = 95
"""Java's caches together: the server's 30 s, the client's 30 s, the load balancer's 35 s."""
PATIENCE_SECONDS = 60
"""For a busy machine, on top of Java's own delays."""


async def bought(platform: Platform, booking_id: int, amount: float) -> dict[str, Any]:
    """A purchase from create to the last answer, as the Booking Service makes it."""
    session = await platform.ask("POST", "/create", bookingId=booking_id, amount=amount)
    session_id = session["sessionId"]
    assert (session["status"], session["bookingId"]) == ("pending", booking_id)
    assert (await platform.ask("GET", f"/verify/{session_id}"))["paymentStatus"] == "PENDING"
    before = sum(len(served(bridge)) for bridge in platform.bridges)
    polling = asyncio.create_task(platform.ask("GET", f"/poll/{session_id}"))
    await until(lambda: sum(len(served(bridge)) for bridge in platform.bridges) > before, PATIENCE_SECONDS)
    await platform.rig.sandbox.pay(session_id)
    polled: dict[str, Any] = await polling
    status = await platform.ask("GET", f"/status/{session_id}")
    # A `message` may differ: the status is read from the database, the poll's from Stripe.
    assert status | {"message": ""} == polled | {"message": ""}
    return polled


def served(bridge: Program) -> list[dict[str, Any]]:
    """The bridge's access lines."""
    return [line for line in bridge.said if line["logger"] == "bridge.access"]


async def seldom(look: Callable[[], Any]) -> Any:
    """The condition, half a second later, to leave the machine to the programs under test."""
    await asyncio.sleep(0.5)
    seen = look()
    return await seen if isinstance(seen, Awaitable) else seen


def at(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()


def lines_about_eureka(bridge: Program) -> list[str]:
    return [line["message"] for line in bridge.said if line["logger"] == "bridge.eureka"]


@pytest.mark.parametrize(
    ("booking_id", "sent", "charged"),
    [(101, 540.9000000000001, 540.9), (102, 299.96999999999997, 299.97), (103, 123456.78999999999, 123456.79)],
)
async def test_a_purchase_of_the_booking_service_is_completed(
    platform: Platform, booking_id: int, sent: float, charged: float
) -> None:
    state = await bought(platform, booking_id, sent)
    assert (state["paymentStatus"], state["bookingId"], state["amount"]) == ("COMPLETED", booking_id, charged)


async def test_the_bridge_is_registered_as_spring_expects_it(platform: Platform) -> None:
    one, other = platform.bridges
    assert await platform.known() == {f"http://127.0.0.1:{one.port}", f"http://localhost:{other.port}"}
    answer = await platform.registry.get(f"/apps/PAYMENT-SERVICE/127.0.0.1:payment-service:{one.port}")
    instance = answer.json()["instance"]
    assert (instance["app"], instance["vipAddress"]) == ("PAYMENT-SERVICE", "payment-service")
    assert instance["healthCheckUrl"] == f"{one.url}/actuator/health"
    for bridge in platform.bridges:
        assert PASSWORD not in read_text(bridge.log)
        assert "canary" not in read_text(bridge.log)


async def test_a_drained_bridge_costs_no_call_even_if_eureka_dies_meanwhile(platform: Platform) -> None:
    leaving, staying = platform.bridges
    await platform.ask("POST", "/load/start", buyers=4, firstBookingId=10**9, pauseMillis=300)
    await until(lambda: seldom(lambda: min(len(served(each)) for each in platform.bridges) > 20), PATIENCE_SECONDS)
    leaving.process.terminate()

    async def only_one_known() -> bool:
        return await seldom(platform.known) == {f"http://localhost:{staying.port}"}

    await until(only_one_known, CACHES_SECONDS)
    await platform.eureka.kill()
    assert (await bought(platform, 201, 449.97))["paymentStatus"] == "COMPLETED"
    assert await leaving.ended(CACHES_SECONDS + PATIENCE_SECONDS) == 0
    after = len(served(staying))
    await until(lambda: seldom(lambda: len(served(staying)) > after + 20), PATIENCE_SECONDS)
    load = await platform.ask("POST", "/load/stop")

    assert load["failures"] == []
    [told] = [line for line in leaving.said if line["message"].startswith("Draining")]
    late = [at(line) - at(told) for line in served(leaving) if at(line) > at(told)]
    _log.info(
        "%d creates, %d verifies, none failed; the drained bridge served %d calls after SIGTERM, the last after %.0f s",
        *(load["creates"], load["verifies"], len(late), max(late)),
    )
    # Spring's own repetition of a refused call would hide it from the caller.
    assert {line["status"] for line in served(leaving) + served(staying)} == {200}
    assert lines_about_eureka(leaving)[-1].startswith("Deregistered")


async def test_a_restarted_eureka_knows_the_bridge_again(platform: Platform) -> None:
    _, staying = platform.bridges
    before = len([line for line in lines_about_eureka(staying) if line.startswith("Registered")])
    await platform.eureka.kill()
    await platform.eureka.start()

    async def registered_again() -> bool:
        return (await platform.registered()).get(f"localhost:payment-service:{staying.port}") == "UP"

    await until(registered_again, PATIENCE_SECONDS)

    async def known_again() -> bool:
        return f"http://localhost:{staying.port}" in await seldom(platform.known)

    # Java may have looked while Eureka knew nobody, and has then to look again.
    await until(known_again, CACHES_SECONDS + PATIENCE_SECONDS)
    await until(lambda: seldom(lambda: _can_create(platform)), CACHES_SECONDS + PATIENCE_SECONDS)
    assert (await bought(platform, 301, 449.97))["paymentStatus"] == "COMPLETED"
    assert len([line for line in lines_about_eureka(staying) if line.startswith("Registered")]) == before + 1


async def _can_create(platform: Platform) -> bool:
    answer = await platform.booking.post("/create", params={"bookingId": 302, "amount": 1000.0})
    return answer.status_code == 200
