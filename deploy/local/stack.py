"""The whole system on this machine: starts every part in the right order, watches it, and ends all of it again."""

import asyncio
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from deploy.local import postgres, processes, rabbitmq, rabbitmq_files, rabbitmq_install
from deploy.local.console import Teller
from deploy.local.processes import LocalError
from deploy.local.settings import CHECKOUT, Settings, commit, own_environment

Result = TypeVar("Result")

DATABASE: Final = "payments"
VHOST: Final = "payments"
START_SECONDS: Final = 60.0
WATCH_SECONDS: Final = 0.3
STILL_SECONDS: Final = 5.0
# Whoever uses others ends before them; the patience with each group, summed, is the longest that Ctrl-C may take.
ENDING: Final = (("storefront", "bridge"), ("service",), ("sandbox", "rabbitmq", "postgres"), ("epmd",))
PATIENCE_SECONDS: Final = 2.2
FIRST_SIGNAL: Final = {"postgres": signal.SIGINT}


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where everything is, once it is up."""

    bridge: str
    service: str
    sandbox: str | None
    storefront: str
    amqp: str
    database: str
    """By a user who may do everything, as is `amqp`; service and bridge have users of their own."""


class Stack:
    """All the parts: `start`, then `watch`; whatever happens, `stop`."""

    def __init__(self, settings: Settings, teller: Teller) -> None:
        self._settings = settings
        self._teller = teller
        self._folder = settings.folder
        self._pids: dict[str, int] = {}
        self._starting: list[str] = []

    async def start(self) -> Addresses:
        """Starts everything; returns once all of it answers.

        Raises:
            LocalError: A part did not come up; says which and why.
        """
        still = asyncio.create_task(self._say_what_is_still_starting())
        try:
            with self._teller.working("starting"):
                addresses = await self._start_all()
        except BaseExceptionGroup as several:
            raise _first(several) from None
        finally:
            still.cancel()
        self._write(addresses)
        return addresses

    async def watch(self) -> None:
        """Returns never.

        Raises:
            LocalError: A part has ended; says which and shows its last words.
        """
        while True:
            for name, pid in self._pids.items():
                if not processes.running(pid):
                    raise LocalError(_died(name, self._log(name), "has ended unexpectedly"))
            await asyncio.sleep(WATCH_SECONDS)

    async def stop(self) -> None:
        """Ends every part."""
        await end_all(self._folder)

    async def _start_all(self) -> Addresses:
        async with asyncio.TaskGroup() as group:
            database = group.create_task(self._database())
            broker = group.create_task(self._broker())
            group.create_task(self._storefront())
            if self._settings.sandbox:
                group.create_task(self._sandbox())
        async with asyncio.TaskGroup() as group:
            owner, application = database.result()
            amqp, amqp_of_service, amqp_of_bridge = broker.result()
            group.create_task(self._service(amqp_of_service, application))
            group.create_task(self._bridge(amqp_of_bridge))
        return Addresses(
            bridge=self._settings.bridge,
            service=self._settings.service,
            sandbox=self._settings.sandbox_url if self._settings.sandbox else None,
            storefront=self._settings.storefront,
            amqp=amqp,
            database=owner,
        )

    # --- the parts ----------------------------------------------------------------------------------------------

    async def _database(self) -> tuple[str, str]:
        """The database by the role that owns the tables and by the service's: a person's own may have one for both."""
        url = self._settings.database_url
        if url is not None:
            await self._timed("migrations", self._migrate({"DATABASE_URL": url}))
            return url, url
        folder = self._folder / "postgres"
        start = postgres.start(folder, database=DATABASE, log=self._log("postgres"), dies_with_us=True)
        server = await self._timed("PostgreSQL", start)
        self._pids["postgres"] = server.pid
        owner, application = server.url(DATABASE), server.application_url(DATABASE)
        roles = {"MIGRATION_DATABASE_URL": owner, "DATABASE_URL": application}
        await self._timed("migrations", self._migrate(roles))
        return owner, application

    async def _migrate(self, roles: dict[str, str]) -> None:
        environment = self._environment() | roles
        status, said = await processes.run([command_path("payment-service"), "migrate"], env=environment)
        self._log("migrate").parent.mkdir(exist_ok=True)
        self._log("migrate").write_text(said)
        if status:
            raise LocalError(_died("payment-service migrate", self._log("migrate"), f"failed with status {status}"))

    async def _broker(self) -> tuple[str, str, str]:
        """The broker by a user who may do everything, by the service's and by the bridge's: a person's may be one."""
        if url := self._settings.amqp_url:
            return url, url, url
        how = await rabbitmq_install.find_or_install(self._teller.say)
        folder = self._folder / "rabbitmq"
        node = await self._timed(
            "RabbitMQ", rabbitmq.start(folder, vhosts=(VHOST,), how=how, log=self._log("rabbitmq"), dies_with_us=True)
        )
        self._pids["rabbitmq"] = node.pid
        service, bridge = (node.url(VHOST, user=user) for user in (rabbitmq_files.SERVICE, rabbitmq_files.BRIDGE))
        return node.url(VHOST), service, bridge

    async def _sandbox(self) -> None:
        environment = {"SANDBOX_HOST": "127.0.0.1", "SANDBOX_PORT": str(self._settings.sandbox_port)}
        url = f"{self._settings.sandbox_url}/_sandbox/stats"
        await self._serve("sandbox", [sys.executable, "-m", "deploy.sandbox"], environment, url)

    async def _storefront(self) -> None:
        environment = {"STOREFRONT_PORT": str(self._settings.storefront_port), "BRIDGE_URL": self._settings.bridge}
        url = f"{self._settings.storefront}/health"
        await self._serve("storefront", [sys.executable, "-m", "deploy.storefront"], environment, url)

    async def _service(self, amqp: str, database: str) -> None:
        shop = self._settings.storefront
        environment = {
            "PAYMENT_SUCCESS_URL": f"{shop}/payments/success?session_id={{CHECKOUT_SESSION_ID}}",
            "PAYMENT_CANCEL_URL": f"{shop}/payments/cancelled",
            **{name: value for name, value in own_environment().items() if name.startswith("PAYMENT_") and value},
            "AMQP_URL": amqp,
            "DATABASE_URL": database,
            "STRIPE_API_KEY": self._settings.stripe_api_key,
            "SERVICE_HOST": "127.0.0.1",
            "SERVICE_PORT": str(self._settings.service_port),
        }
        if self._settings.sandbox:
            environment["STRIPE_API_BASE"] = self._settings.sandbox_url
        command = [command_path("payment-service"), "run"]
        await self._serve("service", command, environment, f"{self._settings.service}/actuator/health/readiness")

    async def _bridge(self, amqp: str) -> None:
        port = str(self._settings.bridge_port)
        environment = {"AMQP_URL": amqp, "BRIDGE_HOST": "127.0.0.1", "BRIDGE_PORT": port}
        command = [command_path("payment-bridge"), "run"]
        await self._serve("bridge", command, environment, f"{self._settings.bridge}/actuator/health/readiness")

    async def _serve(self, name: str, command: list[str], environment: dict[str, str], ready: str) -> None:
        """Starts one of our own processes and waits until it answers 200 at `ready`."""
        log = self._log(name)
        pid = processes.spawn(
            command,
            env=self._environment() | environment,
            log=log,
            pid_file=self._folder / f"{name}.pid",
            dies_with_us=signal.SIGTERM,
        )
        self._pids[name] = pid
        await self._timed(name, _answers(name, pid, log, ready), note=ready.rpartition(urlsplit(ready).path)[0])

    # --- telling and keeping ------------------------------------------------------------------------------------

    async def _timed(self, name: str, work: Coroutine[Any, Any, Result], *, note: str = "") -> Result:
        began = time.monotonic()
        self._starting.append(name)
        result = await work
        self._starting.remove(name)
        self._teller.ready(name, time.monotonic() - began, note=note)
        return result

    async def _say_what_is_still_starting(self) -> None:
        while True:
            await asyncio.sleep(STILL_SECONDS)
            if self._starting:
                self._teller.say(f"  still starting: {', '.join(self._starting)}", style="dim")

    def _write(self, addresses: Addresses) -> None:
        """Tells others where everything is; for us alone to read, as it holds passwords."""
        members = {
            "bridge": addresses.bridge,
            "service": addresses.service,
            "sandbox": addresses.sandbox,
            "amqp": addresses.amqp,
            "database": addresses.database,
            "pids": self._pids,
        }
        new = self._folder / "stack.json.new"
        new.touch(mode=0o600)
        new.write_text(json.dumps(members, indent=2) + "\n")
        new.rename(self._folder / "stack.json")

    def _log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"

    def _environment(self) -> dict[str, str]:
        return {
            "LOG_FORMAT": "console",
            "GIT_COMMIT": commit(),
            **own_environment(),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            # The mark by which a later start knows what an earlier, killed one has left.
            "BOOKTICKET_FOLDER": str(self._folder),
        }


async def end_all(folder: Path) -> None:
    """Ends every process of the stack in `folder`, whoever started it, within 10 s, and only those that are its own."""
    (folder / "stack.json").unlink(missing_ok=True)
    for group in ENDING:
        await asyncio.gather(
            *(
                processes.stop_recorded(
                    pid_file,
                    mark=str(folder),
                    first=FIRST_SIGNAL.get(name, signal.SIGTERM),
                    patience_seconds=PATIENCE_SECONDS,
                )
                for name in group
                for pid_file in _pid_files(folder, name)
            )
        )


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Makes sure that one stack at a time uses `folder`; the kernel lets go of it however we end.

    Raises:
        LocalError: There is another one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            message = (
                f"The stack in {folder} is running already (process {lock.read().strip()}): end it with Ctrl-C there, "
                "or set STACK_DIR and other ports for a second one."
            )
            raise LocalError(message) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _pid_files(folder: Path, name: str) -> list[Path]:
    """Our own parts keep theirs in the stack's folder, the servers each in its own below."""
    return [folder / f"{name}.pid", *folder.glob(f"*/{name}.pid")]


async def _answers(name: str, pid: int, log: Path, url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
        while processes.running(pid):
            try:
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise LocalError(_died(name, log, f"did not become ready within {START_SECONDS:.0f} s"))
            await asyncio.sleep(processes.POLL_SECONDS)
    raise LocalError(_died(name, log, "ended at its start"))


def _died(name: str, log: Path, how: str) -> str:
    return f"{name} {how}. The last lines of {log}:\n{processes.last_lines(log)}"


def command_path(name: str) -> str:
    """One of the project's own commands, beside the Python that runs us."""
    return str(Path(sys.executable).parent / name)


def _first(error: BaseException) -> BaseException:
    """The one that came first of a group of failures: the others were cancelled for it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
