"""What the cluster costs beside single nodes, in one run, and how its services share the work.

`python -m tools.bench.cluster_cost`: as JSON. Both have one service and one bridge and are measured in turn; then the
cluster gets more of them.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import uvloop

from tools.bench import replicas
from tools.bench.bench_system import UNPACED, System
from tools.bench.load_generator import closed_loop, creates_of, http, open_loop
from tools.devstack.cluster.cluster_stack import Cluster

LATENCY_MS: Final = 20
"""Of Stripe: little, so that what the servers cost shows."""
ROUNDS: Final = 3
CALLERS: Final = 100
SECONDS: Final = 5.0
SLOW_RATE: Final = 10.0
SCALES: Final = ((1, 1), (2, 2), (4, 3))
_HANDLED: Final = "payment_service_commands_total{"


class OnCluster(System):
    """The same on a cluster, of which nothing is started again."""

    stack_class = Cluster


async def measure(folder: Path) -> dict[str, Any]:
    """The figures."""
    single, cluster = System(folder / "single", UNPACED), OnCluster(folder / "cluster", UNPACED)
    try:
        for system in (single, cluster):
            await system.start()
            await system.scale(services=1, bridges=1)
            await system.stripe(latency_ms=LATENCY_MS)
        cost = [
            {"on": name, **await _cost(system)}
            for _ in range(ROUNDS)
            for name, system in (("single nodes", single), ("cluster", cluster))
        ]
        await single.stop()
        return {"cost": cost, "scale": [await _scale(cluster, services, bridges) for services, bridges in SCALES]}
    finally:
        await single.stop()
        await cluster.stop()


async def _cost(system: System) -> dict[str, Any]:
    """Latency at a low rate, then the most creates a second."""
    async with http(system.bridges[0]) as client:
        create = creates_of(client)
        await closed_loop(create, callers=CALLERS, seconds=1.0)
        slow = await open_loop(create, rate=SLOW_RATE, seconds=SECONDS)
        full = await closed_loop(create, callers=CALLERS, seconds=SECONDS)
    errors = slow.errors + full.errors
    return {
        "p50_ms": slow.latencies.ms(50),
        "p99_ms": slow.latencies.ms(99),
        "per_s": full.per_second,
        "errors": errors,
    }


async def _scale(system: System, services: int, bridges: int) -> dict[str, Any]:
    """The limits of Stripe and the invariants, then the most creates a second and each service's share of them."""
    row = await replicas.limited(system, services, bridges) | await replicas.unlimited(system, services, bridges)
    handled = await _handled(system.services)
    shares = [round(each * services / sum(handled), 2) for each in handled]
    return {"services": services, "bridges": bridges, **row, "shares of a fair one": shares}


async def _handled(services: Sequence[str]) -> list[float]:
    """Commands that each service has handled."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        pages = [(await client.get(f"{base}/actuator/prometheus")).text for base in services]
    return [sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(_HANDLED)) for page in pages]


def main() -> None:
    """Prints the figures."""
    with tempfile.TemporaryDirectory(prefix="bookticket-cluster-") as folder:
        figures = uvloop.run(measure(Path(folder)))
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
