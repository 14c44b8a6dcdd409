"""Health: the worst part's state is the whole's, and no part can hold up the answer."""

import asyncio
import json

import pytest

from runtime.health import Build, Check, Health, NotReadyError


async def up() -> bool:
    return True


async def down() -> bool:
    return False


async def broken() -> bool:
    raise RuntimeError


async def unready() -> bool:
    raise NotReadyError("exchange x is missing")


async def silent() -> bool:
    await asyncio.Event().wait()
    return True


@pytest.mark.parametrize(("check", "status", "word"), [(up, 200, "UP"), (down, 503, "DOWN"), (broken, 503, "DOWN")])
async def test_the_worst_part_decides(check: Check, status: int, word: str) -> None:
    health = Health(checks={"other": up, "part": check}, is_leaving=lambda: False)
    ready, whole = await health.readiness(), await health.health()
    assert (ready.status, whole.status) == (status, status)
    document = json.loads(ready.body)
    assert document == {
        "status": word,
        "components": {"other": {"status": "UP"}, "part": {"status": word}, "readinessState": {"status": "UP"}},
    }
    assert json.loads(whole.body) == document | {"groups": ["liveness", "readiness"]}


async def test_a_part_that_cannot_be_used_may_say_why() -> None:
    page = await Health(checks={"part": unready}, is_leaving=lambda: False).readiness()
    assert page.status == 503
    assert json.loads(page.body)["components"]["part"] == {
        "status": "DOWN",
        "details": {"reason": "exchange x is missing"},
    }


async def test_who_leaves_is_out_of_service_and_asks_no_part() -> None:
    health = Health(checks={"part": broken}, is_leaving=lambda: True)
    page = await health.readiness()
    assert page.status == 503
    assert json.loads(page.body) == {
        "status": "OUT_OF_SERVICE",
        "components": {"readinessState": {"status": "OUT_OF_SERVICE"}},
    }


async def test_silent_parts_are_asked_side_by_side_and_are_down() -> None:
    checks = {str(number): silent for number in range(1000)}
    health = Health(checks=checks, is_leaving=lambda: False, check_seconds=0.2)
    async with asyncio.timeout(60):
        assert (await health.readiness()).status == 503


def test_info_names_the_commit_only_if_somebody_said_it() -> None:
    assert json.loads(Build.installed("payment-x", commit="90b07ff").page().body) == {
        "build": {"name": "payment-x", "version": "1.0.0"},
        "git": {"commit": {"id": "90b07ff"}},
    }
    assert "git" not in json.loads(Build.installed("payment-x", commit=None).page().body)
