"""Puts the database back to an older copy, as docs/operating.md tells an operator to: nothing runs on it meanwhile."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tools.chaos.chaos_system import System
from tools.devstack import postgres_server, processes
from tools.devstack.processes import LocalError


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A dump of the database, and when it was made, on the monotonic clock."""

    dump: Path
    made_at: float


STRIPE_CALLS_SECONDS = 8.0
"""A call to Stripe that a stopped service had under way has reached it by then."""
RECOVERY_SECONDS = 20.0


async def copied(system: System) -> Copy:
    """The database as it is now, or as soon as it has recovered from a kill before."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        copy = Copy(dump=system.folder / "payments.dump", made_at=time.monotonic())
        try:
            await _run(system, "pg_dump", "--format=custom", "--file", copy.dump)
        except LocalError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)
        else:
            return copy


async def put_back(system: System, copy: Copy) -> None:
    """Stops the services, replaces the database by the copy, and starts them."""
    services = system.services
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(member.stopped()) for member in services))
        await asyncio.sleep(STRIPE_CALLS_SECONDS)
        await system.before_restore()
        await _run(
            system, "pg_restore", "--clean", "--if-exists", "--create", "--exit-on-error", copy.dump, to="postgres"
        )
    system.losses.append((copy.made_at, time.monotonic()))
    await asyncio.gather(*(system.ready(member) for member in services))


async def _run(system: System, program: str, *options: str | Path, to: str | None = None) -> None:
    address = urlsplit(system.database_url)
    bare: dict[str, Any] = {"netloc": address.netloc.replace(f":{address.password}@", "@")}
    if to is not None:
        bare["path"] = f"/{to}"
        await _end_sessions(system)
    url = address._replace(**bare).geturl()
    environment = system.environment() | {"PGPASSWORD": unquote(address.password or "")}
    status, output = await processes.run(
        [postgres_server.programs() / program, *options, f"--dbname={url}"], env=environment
    )
    if status:
        raise LocalError(f"{program} failed: {output}")


async def _end_sessions(system: System) -> None:
    """A database that is used cannot be dropped; what watches the run comes back by itself."""
    server = urlsplit(system.database_url)._replace(path="/postgres").geturl()
    name = urlsplit(system.database_url).path.removeprefix("/")
    await postgres_server.execute(server, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await postgres_server.execute(
        server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    )
