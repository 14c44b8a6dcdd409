"""T8: a rolling upgrade. The last release's bridge works with today's service, and the reverse.

The file `last_release` beside this one names the commit; whoever makes a release writes its commit there.
"""

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.faults.stack import bridge
from tests.integration.service.crash.programs import Program, starting
from tests.integration.service.messages.rig import Rig, a_create, serving
from tests.kit.databases import NewDatabase
from tests.kit.programs import ended
from tools.devstack.stack_settings import CHECKOUT

LAST_RELEASE = (Path(__file__).parent / "last_release").read_text().strip()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last release's own code."""
    folder = tmp_path_factory.mktemp("last-release")
    archive = ("git", "-C", str(CHECKOUT), "archive", LAST_RELEASE)
    try:
        packed = subprocess.run(archive, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"needs git and the commit {LAST_RELEASE}, which a shallow clone does not have")
    subprocess.run(("tar", "-x", "-C", str(folder)), input=packed, check=True)
    return folder


@pytest.fixture
def empty(new_database: NewDatabase) -> str:
    return new_database()


async def buys(client: httpx.AsyncClient) -> None:
    command = a_create()
    created = await client.post(f"{BASE}/checkout/create", json=command)
    assert created.status_code == 200, created.text
    session = created.json()["sessionId"]
    for page in ("checkout/verify", "status"):
        state = await client.get(f"{BASE}/{page}/{session}")
        assert (state.status_code, state.json()["paymentStatus"]) == (200, "PENDING"), state.text
    unknown = await client.get(f"{BASE}/status/cs_test_stranger")
    assert (unknown.status_code, unknown.json()["paymentStatus"]) == (404, "NOT_FOUND")


async def test_the_last_releases_bridge_works_with_this_service(rig: Rig, checkout: Path, tmp_path: Path) -> None:
    async with serving(rig.settings), starting(rig, logs=tmp_path, checkout=checkout) as programs:
        old: Program = await programs.bridge(BRIDGE_TIMEOUT_SECONDS="60")
        async with httpx.AsyncClient(base_url=old.url, headers=IDENTITY, timeout=90) as client:
            await buys(client)


async def test_the_last_releases_service_works_with_this_bridge(
    rig: Rig, checkout: Path, tmp_path: Path, empty: str
) -> None:
    database = {"DATABASE_URL": empty}
    migrated = await ended("-m", "service", "migrate", folder=checkout, **database)
    assert migrated.status == 0, migrated.said
    async with starting(rig, logs=tmp_path, checkout=checkout) as programs:
        await programs.service(**database)
        async with bridge(rig.amqp_url, timeout_seconds=60) as caller:
            await buys(caller.client)
