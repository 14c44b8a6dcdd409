"""Three PostgreSQL servers under Patroni, a primary and two standbys, with `deploy/ha/patroni.yml`."""

import asyncio
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from tools.devstack import postgres_server, processes
from tools.devstack.cluster.cluster_ports import SIZE
from tools.devstack.postgres_server import USER
from tools.devstack.stack_settings import CHECKOUT

CONFIGURATION: Final = CHECKOUT / "deploy" / "ha" / "patroni.yml"
START_SECONDS: Final = 180.0
HEALTHY: Final = ["primary", *(["streaming"] * (SIZE - 1))]
"""The sorted states of members of which all is well."""


@dataclass(frozen=True, kw_only=True)
class PatroniMembers:
    """The members below `folder`; `spawn` starts one, also again after its end."""

    folder: Path
    logs: Path
    ports: dict[str, int]
    etcd: list[str]
    database: str
    roles: tuple[str, ...]
    """Of the parts that use the database."""
    mark: str

    @property
    def names(self) -> list[str]:
        return [f"postgres-{number}" for number in range(1, SIZE + 1)]

    def url(self, name: str) -> str:
        """The URL of one server for the superuser."""
        return self._url(f"127.0.0.1:{self.ports[name]}", USER)

    def all_url(self, *, user: str = USER, database: str | None = None) -> str:
        """The URL that names all servers; who connects takes the writable one."""
        hosts = ",".join(f"127.0.0.1:{self.ports[name]}" for name in self.names)
        return self._url(hosts, user, database) + "?target_session_attrs=read-write"

    def spawn(self, name: str) -> int:
        """Starts Patroni, which starts its server, or takes over the one that runs."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        file = self.configuration_file(name)
        file.touch(mode=0o600)
        file.write_text(json.dumps(self._configuration(name), indent=2))
        return processes.spawn(
            [Path(sys.executable).parent / "patroni", file],
            wrapper=postgres_server.as_nobody(),
            env=postgres_server.environment() | {"BOOKTICKET_FOLDER": self.mark, "PYTHONUNBUFFERED": "1"},
            log=self.logs / f"{name}.log",
            pid_file=folder / "patroni.pid",
            dies_with_us=signal.SIGTERM,
        )

    def postmaster(self, name: str) -> int | None:
        """The pid of the server itself; None while it has none."""
        return processes.read_pid(self.folder / name / "data" / "postmaster.pid")

    def configuration_file(self, name: str) -> Path:
        return self.folder / name / "patroni.yml"

    async def states(self) -> dict[str, str]:
        """What each member says of itself: `primary`, `streaming` for a standby that follows it, or what it is doing.

        Not what one says of the others: that is what etcd keeps, also from before a restart.
        """
        async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
            return dict(
                zip(self.names, await asyncio.gather(*(self._state(http, name) for name in self.names)), strict=True)
            )

    async def _state(self, http: httpx.AsyncClient, name: str) -> str:
        try:
            said = (await http.get(f"http://{self._rest(name)}/patroni")).json()
        except httpx.TransportError:
            return "silent"
        if said.get("state") == "running" and said.get("role") == "primary":
            return "primary"
        return str(said.get("replication_state") or said.get("state"))

    async def wait_until_ready(self, pids: dict[str, int]) -> None:
        """Waits for a primary and two standbys that follow it, then makes the database and the roles.

        Raises:
            LocalError: A member did not start.
        """

        async def is_ready() -> bool:
            return sorted((await self.states()).values()) == HEALTHY

        first = self.names[0]
        log = self.logs / f"{first}.log"
        await processes.wait_until_ready("PostgreSQL", pids[first], log, is_ready, seconds=START_SECONDS)
        url = self.all_url(database="postgres")
        known = await postgres_server.execute(url, "SELECT datname FROM pg_database")
        if self.database not in known.split():
            await postgres_server.execute(url, f'CREATE DATABASE "{self.database}"')
        for role in self.roles:
            await postgres_server.make_role(url, role, self._password(role))

    def _configuration(self, name: str) -> dict[str, Any]:
        """The deployed file with this member's own name, addresses and passwords; JSON is YAML."""
        file: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
        address = f"127.0.0.1:{self.ports[name]}"
        postgresql = file["postgresql"] | {
            "listen": address,
            "connect_address": address,
            "data_dir": str(self.folder / name / "data"),
            "bin_dir": str(postgres_server.programs()),
            "pgpass": str(self.folder / name / "pgpass"),
            "parameters": {"unix_socket_directories": "", "shared_buffers": "32MB"},
            "authentication": {
                "superuser": {"username": USER, "password": self._password(USER)},
                "replication": {"username": "replicator", "password": self._password("replicator")},
            },
        }
        rest = self._rest(name)
        own = {"name": name, "restapi": {"listen": rest, "connect_address": rest}, "etcd3": {"hosts": self.etcd}}
        return file | own | {"postgresql": postgresql}

    def _rest(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name.replace('postgres', 'patroni')]}"

    def _password(self, user: str) -> str:
        return postgres_server.secret(self.folder / f"{user}-password")

    def _url(self, hosts: str, user: str, database: str | None = None) -> str:
        return f"postgresql://{user}:{self._password(user)}@{hosts}/{database or self.database}"
