"""A real Prometheus scrapes real processes: every panel of the dashboards has data, and no rule fails."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from contracts.commands import CommandType
from tests.architecture.test_observability import FOLDER, panels
from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.service.crash.programs import Program, starting
from tests.integration.service.messages.rig import Rig, a_create, around, until
from tools.devstack.processes import free_ports

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="there is no Prometheus on this machine")


@pytest.fixture
async def rig(amqp_url: str, migrated_url: str) -> AsyncIterator[Rig]:
    """Without a service, which would do a part of what the one that is scraped has to do."""
    async with around(amqp_url, migrated_url) as rig:
        yield rig


@asynccontextmanager
async def prometheus(folder: Path, targets: dict[str, Program]) -> AsyncIterator[str]:
    """Its address; it scrapes the targets, and evaluates the alerts, twice a second."""
    shutil.copyfile(FOLDER / "alerts.yml", folder / "alerts.yml")
    jobs = [
        {
            "job_name": name,
            "metrics_path": "/actuator/prometheus",
            "static_configs": [{"targets": [program.url.removeprefix("http://")]}],
        }
        for name, program in targets.items()
    ]
    intervals = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    config = {"global": intervals, "rule_files": ["alerts.yml"], "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    command = [
        *("prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"),
    ]
    process = await asyncio.to_thread(subprocess.Popen, command, stdin=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 60)


async def shop(rig: Rig, bridge: Program) -> None:
    """Something of everything: a purchase, a mistake, an error of Stripe's, and a command that nobody can do."""
    async with httpx.AsyncClient(base_url=bridge.url, headers=IDENTITY, timeout=60) as client:
        made = await client.post(f"{BASE}/checkout/create", json=a_create())
        assert made.status_code == 200, made.text
        session = made.json()["sessionId"]
        await client.get(f"{BASE}/checkout/verify/{session}")
        await client.get(f"{BASE}/status/cs_test_nobody")
        await rig.sandbox.pay(session)
        async with rig.stripe_with(down=True):
            assert (await client.post(f"{BASE}/checkout/create", json=a_create())).status_code in {502, 503}
        await rig.send(CommandType.CREATE_CHECKOUT, {"bookingId": 1})


def queries() -> Iterator[tuple[str, str]]:
    for dashboard, panel, expression in panels():
        yield f"{dashboard}: {panel}", expression.replace("$__rate_interval", "10s")


async def test_every_panel_has_data_and_no_rule_fails(rig: Rig, tmp_path: Path) -> None:
    async with starting(rig, logs=tmp_path) as programs:
        (port,) = free_ports(1)
        service = await programs.service(SERVICE_PORT=str(port))
        service.port = port
        bridge = await programs.bridge()
        await shop(rig, bridge)
        folder = tmp_path / "prometheus"
        folder.mkdir()
        async with (
            prometheus(folder, {"payment-service": service, "payment-bridge": bridge}) as url,
            httpx.AsyncClient(base_url=url, timeout=30) as client,
        ):
            wanted = dict.fromkeys(queries())

            async def answered() -> bool:
                for panel, expression in list(wanted):
                    try:
                        answer = await client.get("/api/v1/query", params={"query": expression})
                    except httpx.TransportError:
                        return False  # it is starting
                    if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
                        return False  # it listens, and reads its files
                    said = answer.json()
                    assert said["status"] == "success", (panel, said)
                    if said["data"]["result"]:
                        del wanted[panel, expression]
                return not wanted

            try:
                await until(answered, every=1, seconds=120)
            except TimeoutError:
                pytest.fail(f"no data: {json.dumps([list(each) for each in wanted], indent=1)}")
            groups: list[Any] = (await client.get("/api/v1/rules")).json()["data"]["groups"]
            assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"] == []
