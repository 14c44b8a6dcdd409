"""`make bench`: measures, prints, and keeps the figures as JSON and a page of plots in `.bench/` (ignored by git)."""

import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvloop

from deploy.local import processes, rabbitmq
from deploy.local import settings as local_settings
from deploy.local.console import Teller
from deploy.local.stack import Stack, command_path
from tests.bench import creates, report, requester

FOLDER = Path(__file__).parents[2] / ".bench"
STARTS = 3


async def measure(folder: Path) -> dict[str, Any]:
    """Every figure, on a stack of its own."""
    ports = processes.free_ports(4)
    names = ("BRIDGE_PORT", "SERVICE_PORT", "SANDBOX_PORT", "STOREFRONT_PORT")
    # As many Stripe calls at once as there are callers: what fills up must be the machine, not a setting.
    os.environ.update({"STRIPE_CONCURRENCY": str(max(creates.CALLERS)), "LOG_LEVEL": "warning", "LOG_FORMAT": "json"})
    chosen = {name: str(port) for name, port in zip(names, ports, strict=True)}
    environ = {name: value for name, value in os.environ.items() if name in {"AMQP_URL", "DATABASE_URL"}}
    stack = Stack(local_settings.load({**environ, **chosen, "STACK_DIR": str(folder)}), Teller())
    _say("requester behind HTTP against a bare round trip ...")
    round_trips = await _round_trips(folder / "requester", environ.get("AMQP_URL"))
    try:
        await stack.start()
        where = json.loads((folder / "stack.json").read_text())
        _say("creates while Stripe takes 300 ms ...")
        rows = await creates.measure(where)
        memory = {name: _resident_mb(where["pids"][name]) for name in ("service", "bridge")}
        _say("from start to ready ...")
        ready = await _ready_seconds(where, folder)
    finally:
        await stack.stop()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}",
        "requester": {name: round(value, 2) for name, value in round_trips.items()},
        "creates": rows,
        "memory_mb": memory,
        "ready_seconds": ready,
    }


async def _round_trips(folder: Path, named: str | None) -> dict[str, float]:
    """On a broker without our service, which would answer too."""
    if named is not None:
        return await requester.measure(named)
    node = await rabbitmq.start(folder)
    try:
        return await requester.measure(node.url())
    finally:
        await rabbitmq.stop(folder)


def _say(text: str) -> None:
    sys.stderr.write(f"\n{text}\n")


def _resident_mb(pid: int) -> float:
    return round(float(psutil.Process(pid).memory_info().rss) / 2**20, 1)


async def _ready_seconds(where: dict[str, Any], folder: Path) -> dict[str, float]:
    """The quickest of some starts of a second service and bridge beside the stack's."""
    environment = {
        **os.environ,
        "AMQP_URL": where["amqp"],
        "DATABASE_URL": where["database"],
        "STRIPE_API_KEY": "sk_test_benchmark0001",
        "STRIPE_API_BASE": where["sandbox"],
    }
    return {
        "service": min([await _start("payment-service", "SERVICE_PORT", environment, folder) for _ in range(STARTS)]),
        "bridge": min([await _start("payment-bridge", "BRIDGE_PORT", environment, folder) for _ in range(STARTS)]),
    }


async def _start(command: str, variable: str, environment: dict[str, str], folder: Path) -> float:
    (port,) = processes.free_ports(1)
    started = time.perf_counter()
    pid = processes.spawn(
        [command_path(command), "run"],
        env={**environment, variable: str(port)},
        log=folder / "logs" / "ready.log",
        pid_file=folder / "ready.pid",
    )
    try:
        async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False) as client:
            while not await _is_ready(client, port):  # noqa: ASYNC110 - another process, no event to wait for
                await asyncio.sleep(0.02)
        return round(time.perf_counter() - started, 2)
    finally:
        await processes.stop(pid)


async def _is_ready(client: httpx.AsyncClient, port: int) -> bool:
    try:
        answer = await client.get(f"http://127.0.0.1:{port}/actuator/health/readiness")
    except httpx.TransportError:
        return False
    return answer.status_code == httpx.codes.OK


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bookticket-bench-") as folder:
        figures = uvloop.run(measure(Path(folder)))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "bench.json").write_text(json.dumps(figures, indent=2) + "\n")
    report.draw(figures, FOLDER / "bench.png")
    sys.stdout.write(report.text(figures))
    sys.stdout.write(f"\nkept in {FOLDER.name}/bench.json and {FOLDER.name}/bench.png\n")


if __name__ == "__main__":
    main()
