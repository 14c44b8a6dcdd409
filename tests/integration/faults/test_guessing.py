"""Somebody guesses the ids of payments, at the whole system."""

import asyncio
import json
import random
import string
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.integration.bridge.conftest import BASE
from tests.integration.faults.stack import bridge
from tests.integration.service.messages.rig import Rig, a_create, serving

LETTERS = string.ascii_letters + string.digits


def guesses(real: str, times: int) -> list[str]:
    """Well-formed ids: half differ from the real one in a letter, half are made up, and some are easily mixed up."""
    generator = random.Random(16)  # noqa: S311
    prefix, tail = real[:8], real[8:]
    found = {
        real.upper().replace("CS_TEST_", prefix),
        real.replace("test", "live"),
        real + "a",
        real[:-1],
        f"{prefix}a",
    }
    while len(found) < times:
        made_up = "".join(generator.choices(LETTERS, k=len(tail)))
        at = generator.randrange(len(tail))
        beside = tail[:at] + generator.choice(LETTERS) + tail[at + 1 :]
        found |= {prefix + made_up, prefix + beside}
    return sorted(found - {real})


def uniform(answer: httpx.Response) -> str:
    """An answer without the id of its request and the time of day."""
    own = answer.headers["x-request-id"]
    headers = {name: value for name, value in answer.headers.items() if name not in {"date", "x-request-id"}}
    document: dict[str, Any] = answer.json()
    assert document.pop("requestId") == own
    assert document.pop("instance") == f"urn:bookticket:payment:request:{own}"
    return json.dumps([answer.status_code, sorted(headers.items()), document])


async def test_who_guesses_ids_learns_nothing_and_costs_nothing(
    rig: Rig, amqp_url: str, pytestconfig: pytest.Config
) -> None:
    """S16: one same 404 answers every well-formed id that is none; Stripe is not asked, nothing is written."""
    async with serving(rig.settings), bridge(amqp_url) as caller:
        session = (await caller.create(a_create())).json()["sessionId"]
        await rig.sandbox.pay(session)
        completed = await caller.client.get(f"{BASE}/checkout/verify/{session}")
        assert completed.json()["paymentStatus"] == "COMPLETED"
        at_once = asyncio.Semaphore(20)

        async def guess(path: str) -> str:
            async with at_once:
                return uniform(await caller.client.get(path))

        ids = guesses(session, pytestconfig.getoption("guesses"))
        paths = [f"{BASE}/{route}/{each}" for each in ids for route in ("checkout/verify", "status")]
        async with rig.nothing_done():
            said = Counter(await asyncio.gather(*map(guess, paths)))
        assert list(said.values()) == [len(paths)], list(said)[:3]
        [only] = said
        assert json.loads(only)[0] == 404
        assert json.loads(only)[2]["paymentStatus"] == "NOT_FOUND"
        assert (await caller.client.get(f"{BASE}/status/{session}")).status_code == 200
