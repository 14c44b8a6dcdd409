"""A private PgBouncer, where it is installed."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tools.devstack import postgres_server, processes

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


@asynccontextmanager
async def pooled(folder: Path, url: str, *, mode: str, sessions: int) -> AsyncIterator[str]:
    """The URL of the same database through a pooler with so many sessions at the server, and no setting beyond that."""
    if PROGRAM is None:
        pytest.skip("needs PgBouncer (Debian's package pgbouncer)")
    address, (port,) = urlsplit(url), processes.free_ports(1)
    (folder / "users").write_text(f'"{address.username}" "{address.password}"\n')
    (folder / "pgbouncer.ini").write_text(f"""
[databases]
* = host=127.0.0.1 port={address.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder / "users"}
pool_mode = {mode}
default_pool_size = {sessions}
max_client_conn = 200
""")
    log = folder / "pgbouncer.log"
    pid = processes.spawn(
        [PROGRAM, folder / "pgbouncer.ini"],
        wrapper=postgres_server.as_nobody(),
        env=dict(os.environ),
        log=log,
        pid_file=folder / "pgbouncer.pid",
    )

    async def ready() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        with closing(writer):
            return True

    try:
        await processes.wait_until_ready("PgBouncer", pid, log, ready, seconds=60)
        yield address._replace(netloc=f"{address.username}:{address.password}@127.0.0.1:{port}").geturl()
    finally:
        await processes.kill(pid)
