"""What is done to the cluster's members: each fault finds its target when it begins, because roles move."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tools.chaos.cluster.cluster_system import ClusterSystem

FROZEN_SECONDS = 20.0
AWAY_SECONDS = 45.0
"""Longer than Patroni's ttl: another server must take over."""
ROLLED = ("rabbitmq-1", "rabbitmq-2", "rabbitmq-3", "patroni-1", "patroni-2", "patroni-3")
ROLLED_LATER = ("etcd-1", "etcd-2", "etcd-3", "service-1", "service-2", "bridge-1", "bridge-2")


@dataclass(frozen=True, kw_only=True)
class ClusterFault:
    """One fault; `run` applies it, waits until its cause is gone, and returns what exactly was hit."""

    name: str
    run: Callable[[ClusterSystem], Awaitable[str]]


def all_faults() -> list[ClusterFault]:
    """Every fault once."""
    faults = [
        ClusterFault(name="primary killed, Patroni lives", run=_kill_primary),
        ClusterFault(name="primary and Patroni killed, back after 5 s", run=_kill_primary_and_patroni),
        ClusterFault(name="primary and Patroni gone", run=_lose_primary),
        ClusterFault(name="primary and Patroni frozen", run=_freeze_primary),
        ClusterFault(name="primary's Patroni alone frozen", run=_freeze_primarys_patroni),
        ClusterFault(name="standby and Patroni killed", run=_kill_standby),
        ClusterFault(name="standby and Patroni frozen", run=_freeze_standby),
        ClusterFault(name="etcd leader killed", run=_kill_etcd),
        ClusterFault(name="etcd leader frozen", run=_freeze_etcd),
        ClusterFault(name="everything restarted, one by one", run=_roll),
    ]
    for number in (1, 2, 3):
        faults.append(ClusterFault(name=f"rabbitmq-{number} killed", run=_broker(f"rabbitmq-{number}", frozen=False)))
        faults.append(ClusterFault(name=f"rabbitmq-{number} frozen", run=_broker(f"rabbitmq-{number}", frozen=True)))
        faults.append(ClusterFault(name=f"rabbitmq-{number} cut off", run=_cut_off(f"rabbitmq-{number}")))
    for part in ("service-1", "service-2", "bridge-1", "bridge-2"):
        faults.append(ClusterFault(name=f"{part} killed", run=_process(part, frozen=False)))
        faults.append(ClusterFault(name=f"{part} frozen", run=_process(part, frozen=True)))
    return faults


def _patroni(server: str) -> str:
    return server.replace("postgres", "patroni")


async def _kill_primary(system: ClusterSystem) -> str:
    primary = await system.primary()
    system.kill([primary])
    return primary


async def _kill_primary_and_patroni(system: ClusterSystem) -> str:
    primary = await system.primary()
    system.kill([_patroni(primary), primary])
    return primary


async def _lose_primary(system: ClusterSystem) -> str:
    primary = await system.primary()
    with system.cluster.away(_patroni(primary)):
        system.kill([_patroni(primary), primary])
        await asyncio.sleep(AWAY_SECONDS)
    return primary


async def _freeze_primary(system: ClusterSystem) -> str:
    primary = await system.primary()
    await system.freeze([_patroni(primary), primary], FROZEN_SECONDS)
    return primary


async def _freeze_primarys_patroni(system: ClusterSystem) -> str:
    """Patroni's lease ends, while its server goes on serving whoever is connected."""
    primary = await system.primary()
    await system.freeze([_patroni(primary)], AWAY_SECONDS)
    return primary


async def _kill_standby(system: ClusterSystem) -> str:
    standby = await system.standby()
    system.kill([_patroni(standby), standby])
    return standby


async def _freeze_standby(system: ClusterSystem) -> str:
    standby = await system.standby()
    await system.freeze([_patroni(standby), standby], FROZEN_SECONDS)
    return standby


async def _kill_etcd(system: ClusterSystem) -> str:
    leader = await system.etcd_leader()
    system.kill([leader])
    return leader


async def _freeze_etcd(system: ClusterSystem) -> str:
    leader = await system.etcd_leader()
    await system.freeze([leader], FROZEN_SECONDS)
    return leader


def _broker(name: str, *, frozen: bool) -> Callable[[ClusterSystem], Awaitable[str]]:
    async def run(system: ClusterSystem) -> str:
        role = await system.broker_role(name)
        await _hit(system, name, frozen=frozen)
        return role

    return run


def _cut_off(name: str) -> Callable[[ClusterSystem], Awaitable[str]]:
    async def run(system: ClusterSystem) -> str:
        role = await system.broker_role(name)
        await system.cut_off(name, FROZEN_SECONDS)
        return role

    return run


def _process(name: str, *, frozen: bool) -> Callable[[ClusterSystem], Awaitable[str]]:
    async def run(system: ClusterSystem) -> str:
        role = await system.service_role(name) if name.startswith("service") else name
        await _hit(system, name, frozen=frozen)
        return role

    return run


async def _hit(system: ClusterSystem, name: str, *, frozen: bool) -> None:
    if frozen:
        await system.freeze([name], FROZEN_SECONDS)
    else:
        system.kill([name])


async def _roll(system: ClusterSystem) -> str:
    for part in (*ROLLED, *ROLLED_LATER):
        await system.end(part)
        await asyncio.sleep(1)
        await system.wait_until_healthy()
    return "every member"
