"""S15: a key is replaced by restarting one service after the other, and nothing is lost meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests import canary
from tests.integration.service.crash.evidence import all_sent, nothing_left
from tests.integration.service.crash.programs import starting
from tests.integration.service.messages.rig import CREATE, Rig, a_create, around, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, migrated_url: str) -> AsyncIterator[Rig]:
    async with around(amqp_url, migrated_url) as rig:
        yield rig


async def test_a_key_is_replaced_under_load_without_a_failure(rig: Rig, tmp_path: Path) -> None:
    async with starting(rig, logs=tmp_path) as programs:
        old = await programs.service()
        bought: list[tuple[str, str]] = []
        replaced = asyncio.Event()

        async def buy() -> None:
            while not replaced.is_set():
                reply = await rig.ask(CREATE, a_create())
                bought.append((reply.type or "", reply.document.get("sessionId", "")))

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(buy())
            new = await programs.service(STRIPE_API_KEY=f"rk_test_{canary.secret('new')}")
            await old.stopped()
            at_the_end_of_the_old = len(bought)
            await until(lambda: len(bought) >= at_the_end_of_the_old + 20)
            replaced.set()
        assert {kind for kind, _ in bought} == {"checkout.create.reply"}
        for _, session in (*bought[:5], *bought[-5:]):
            await rig.sandbox.pay(session)
            assert (await rig.verified(session))["paymentStatus"] == "COMPLETED"
        await all_sent(rig)
        await nothing_left(rig, new, CREATE)
        assert len(await rig.sandbox.control("ledger")) == len(bought)
