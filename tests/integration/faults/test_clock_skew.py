"""T6: a bridge whose clock is off. Creates are served, nobody hears of it but operators, nothing is dead-lettered."""

import functools
import time
from pathlib import Path

import pytest

from bridge.service_clock import ServiceClock
from tests.integration.bridge.conftest import BASE
from tests.integration.bridge.issuer import AUDIENCE, ISSUER, bearer, both_keys, token
from tests.integration.bridge.processes import running
from tests.integration.faults.stack import bridge
from tests.integration.service.messages.rig import CREATE, Rig, a_create, serving

SKEWS = [15, -15, 360, -360, 3600, -3600]
FOR_A_PROCESS = [3600, -3600, *(pytest.param(each, marks=pytest.mark.thorough) for each in SKEWS[:4])]
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


def faked(skew: int) -> dict[str, str]:
    """The environment of a process on a machine whose clock is off."""
    return {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME": f"{skew:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


async def test_bridges_whose_clocks_are_off_serve_and_tell_it(
    rig: Rig, amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    parked = len(await rig.dead_letters(CREATE))
    async with serving(rig.settings):
        for skew in SKEWS:
            clock = ServiceClock(wall=functools.partial(_skewed, skew))
            async with bridge(amqp_url, clock=clock) as caller:
                for _ in range(2):
                    answer = await caller.create(a_create())
                    assert answer.status_code == 200, answer.text
                health = (await caller.client.get("/actuator/health")).json()
            assert abs(health["components"]["service"]["details"]["clockSkewSeconds"] + skew) <= 2
            assert "The service's clock is" in caplog.text
            caplog.clear()
    assert len(await rig.dead_letters(CREATE)) == parked


def _skewed(seconds: int) -> float:
    return time.time() + seconds


async def test_a_service_whose_clock_was_set_is_found_out_by_the_first_call_that_nobody_answers(
    rig: Rig, amqp_url: str
) -> None:
    """What was measured does not hold any more: commands look as if they had come too late."""
    wall = time.time
    clock = ServiceClock(wall=wall)
    async with serving(rig.settings), bridge(amqp_url, clock=clock, timeout_seconds=5) as caller:
        assert (await caller.create(a_create())).status_code == 200
        assert clock._ahead is not None
        clock._ahead -= 3600
        assert (await caller.create(a_create())).status_code == 504
        caller.rpc_client.timeout_seconds = 60
        assert (await caller.create(a_create())).status_code == 200


@pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime (Debian's package faketime)")
@pytest.mark.parametrize("skew", FOR_A_PROCESS)
async def test_a_bridge_process_on_a_machine_whose_clock_is_off_serves(rig: Rig, amqp_url: str, skew: int) -> None:
    parked = len(await rig.dead_letters(CREATE))
    async with serving(rig.settings), running(amqp_url, BRIDGE_TIMEOUT_SECONDS="60", **faked(skew)) as caller:
        answers = [await caller.client.post(f"{BASE}/checkout/create", json=a_create()) for _ in range(2)]
        metrics = (await caller.client.get("/actuator/prometheus")).text.splitlines()
    assert [answer.status_code for answer in answers] == [200, 200]
    [measured] = [line for line in metrics if line.startswith("payment_bridge_service_clock_skew_seconds ")]
    assert abs(float(measured.split()[1]) + skew) <= 2
    assert len(await rig.dead_letters(CREATE)) == parked


@pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime (Debian's package faketime)")
async def test_a_bridge_process_that_is_an_hour_off_takes_good_tokens(rig: Rig, amqp_url: str, tmp_path: Path) -> None:
    """By its own clock they were over for long."""
    (tmp_path / "keys.json").write_bytes(both_keys())
    settings = {
        "BRIDGE_AUTH": "jwt",
        "BRIDGE_JWT_ISSUER": ISSUER,
        "BRIDGE_JWT_AUDIENCE": AUDIENCE,
        "BRIDGE_JWT_JWKS": str(tmp_path / "keys.json"),
        "BRIDGE_TIMEOUT_SECONDS": "60",
    }
    async with serving(rig.settings), running(amqp_url, **settings, **faked(3600)) as caller:
        answer = await caller.client.post(f"{BASE}/checkout/create", json=a_create(), headers=bearer(token()))
    assert answer.status_code == 200
