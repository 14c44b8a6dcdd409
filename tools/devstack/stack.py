"""The whole system on this machine: starts every part in the right order, watches it, and ends it."""

import asyncio
import json
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from tools.devstack import postgres_server, processes, rabbitmq_files, rabbitmq_install, rabbitmq_server
from tools.devstack.addresses import CONSOLE_ROLE, Addresses, Urls
from tools.devstack.processes import LocalError
from tools.devstack.stack_folder import end_all
from tools.devstack.stack_settings import CHECKOUT, Settings, commit, own_environment
from tools.devstack.terminal import Terminal

Result = TypeVar("Result")

DATABASE: Final = "payments"
VHOST: Final = "payments"
START_SECONDS: Final = 180.0
WATCH_SECONDS: Final = 0.3
STILL_SECONDS: Final = 5.0


class Stack:
    """All parts: `start`, then `watch`; always `stop`."""

    def __init__(self, settings: Settings, terminal: Terminal, *, tree: Path = CHECKOUT) -> None:
        """`tree`: the checkout that service, bridge and console are run from."""
        self._settings = settings
        self._tree = tree
        self._terminal = terminal
        self._folder = settings.folder
        self._pids: dict[str, int] = {}
        self._spawns: dict[str, Callable[[], int]] = {}
        self._starting: list[str] = []
        self._code = {"PYTHONPATH": str(tree)}
        self._paths = [Path(sys.executable).parent]
        """Where the commands are that `env` puts on the PATH."""

    async def start(self) -> Addresses:
        """Starts every part; returns once all of them are ready.

        Raises:
            LocalError: A part did not start; says which and why.
        """
        progress = asyncio.create_task(self._report_progress())
        try:
            with self._terminal.working("starting"):
                addresses = await self._start_all()
        except BaseExceptionGroup as several:
            raise _first(several) from None
        finally:
            progress.cancel()
        self._write(addresses)
        return addresses

    async def watch(self) -> None:
        """Never returns.

        Raises:
            LocalError: A part has ended; shows the end of its log.
        """
        while True:
            for name, pid in self._pids.items():
                if not processes.running(pid):
                    raise LocalError(processes.death_notice(name, self._log(name), "has ended unexpectedly"))
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
            databases, brokers = database.result(), broker.result()
            for name, port in self._services().items():
                group.create_task(self._service(name, port, brokers.service, databases.service))
            for name, port in self._bridges().items():
                group.create_task(self._bridge(name, port, brokers.bridge))
            group.create_task(self._console(brokers.console, databases.console))
        return Addresses(
            bridge=self._settings.bridge,
            service=self._settings.service,
            console=self._settings.console,
            sandbox=self._settings.sandbox_url if self._settings.sandbox else None,
            storefront=self._settings.storefront,
            amqp=brokers.administrator,
            database=databases.administrator,
        )

    # --- the parts ----------------------------------------------------------------------------------------------

    def _services(self) -> dict[str, int]:
        """The services' names and ports."""
        return {"service": self._settings.service_port}

    def _bridges(self) -> dict[str, int]:
        return {"bridge": self._settings.bridge_port}

    async def _database(self) -> Urls:
        """A named DATABASE_URL serves everybody."""
        url = self._settings.database_url
        if url is not None:
            await self._timed("migrations", self._migrate({"DATABASE_URL": url}))
            return Urls(administrator=url, service=url, console=url)
        folder = self._folder / "postgres"
        start = postgres_server.start(folder, database=DATABASE, log=self._log("postgres"), dies_with_us=True)
        server = await self._timed("PostgreSQL", start)
        self._pids["postgres"] = server.pid
        owner, application, password = server.url(DATABASE), server.application_url(DATABASE), secrets.token_hex(16)
        await postgres_server.make_role(owner, CONSOLE_ROLE, password)
        console = f"postgresql://{CONSOLE_ROLE}:{password}@127.0.0.1:{server.port}/{DATABASE}"
        urls = Urls(administrator=owner, service=application, console=console)
        await self._timed("migrations", self._migrate(urls.roles()))
        return urls

    async def _migrate(self, roles: dict[str, str]) -> None:
        environment = self._environment() | self._code | roles
        status, output = await processes.run(
            [command_path("payment-service", tree=self._tree), "migrate"], env=environment
        )
        log = self._log("migrate")
        log.parent.mkdir(exist_ok=True)
        log.write_text(output)
        if status:
            raise LocalError(processes.death_notice("payment-service migrate", log, f"failed with status {status}"))

    async def _broker(self) -> Urls:
        """A named AMQP_URL serves everybody."""
        if url := self._settings.amqp_url:
            return Urls(administrator=url, service=url, console=url, bridge=url)
        how = await rabbitmq_install.find_or_install(self._terminal.say)
        folder = self._folder / "rabbitmq"
        node = await self._timed(
            "RabbitMQ",
            rabbitmq_server.start(folder, vhosts=(VHOST,), how=how, log=self._log("rabbitmq"), dies_with_us=True),
        )
        self._pids["rabbitmq"] = node.pid
        service, bridge, console = (
            node.url(VHOST, user=user)
            for user in (rabbitmq_files.SERVICE, rabbitmq_files.BRIDGE, rabbitmq_files.CONSOLE)
        )
        return Urls(administrator=node.url(VHOST), service=service, bridge=bridge, console=console)

    async def _sandbox(self) -> None:
        environment = {"SANDBOX_HOST": "127.0.0.1", "SANDBOX_PORT": str(self._settings.sandbox_port)}
        url = f"{self._settings.sandbox_url}/_sandbox/stats"
        await self._serve("sandbox", [sys.executable, "-m", "tools.sandbox"], environment, url)

    async def _storefront(self) -> None:
        environment = {"STOREFRONT_PORT": str(self._settings.storefront_port), "BRIDGE_URL": self._settings.bridge}
        url = f"{self._settings.storefront}/health"
        await self._serve("storefront", [sys.executable, "-m", "tools.storefront"], environment, url)

    def _stripe(self) -> dict[str, str]:
        base = {"STRIPE_API_BASE": self._settings.sandbox_url} if self._settings.sandbox else {}
        return base | {"STRIPE_API_KEY": self._settings.stripe_api_key}

    async def _service(self, name: str, port: int, amqp: str, database: str) -> None:
        shop = self._settings.storefront
        environment = {
            "PAYMENT_SUCCESS_URL": f"{shop}/payments/success?session_id={{CHECKOUT_SESSION_ID}}",
            "PAYMENT_CANCEL_URL": f"{shop}/payments/cancelled",
            **{key: value for key, value in own_environment().items() if key.startswith("PAYMENT_") and value},
            "AMQP_URL": amqp,
            "DATABASE_URL": database,
            **self._code,
            **self._stripe(),
            "SERVICE_HOST": "127.0.0.1",
            "SERVICE_PORT": str(port),
        }
        command = [command_path("payment-service", tree=self._tree), "run"]
        await self._serve(name, command, environment, f"http://127.0.0.1:{port}/actuator/health/readiness")

    async def _bridge(self, name: str, port: int, amqp: str) -> None:
        environment = {**self._code, "AMQP_URL": amqp, "BRIDGE_HOST": "127.0.0.1", "BRIDGE_PORT": str(port)}
        command = [command_path("payment-bridge", tree=self._tree), "run"]
        await self._serve(name, command, environment, f"http://127.0.0.1:{port}/actuator/health/readiness")

    async def _console(self, amqp: str, database: str) -> None:
        environment = {
            **self._code,
            "AMQP_URL": amqp,
            "DATABASE_URL": database,
            "CONSOLE_HOST": "127.0.0.1",
            "CONSOLE_PORT": str(self._settings.console_port),
        }
        command = [command_path("payment-console", tree=self._tree), "run"]
        await self._serve("console", command, environment, f"{self._settings.console}/actuator/health/readiness")

    async def _serve(self, name: str, command: list[str], environment: dict[str, str], ready: str) -> None:
        """Starts one of our processes and waits until it answers 200 at `ready`."""
        log = self._log(name)
        self._spawns[name] = partial(
            processes.spawn,
            command,
            env=self._environment() | environment,
            log=log,
            pid_file=self._folder / f"{name}.pid",
            dies_with_us=signal.SIGTERM,
        )
        pid = self._pids[name] = self._spawns[name]()
        serving = processes.wait_until_serving(name, pid, log, ready, seconds=START_SECONDS)
        await self._timed(name, serving, note=ready.rpartition(urlsplit(ready).path)[0])

    # --- progress and files -------------------------------------------------------------------------------------

    async def _timed(self, name: str, work: Coroutine[Any, Any, Result], *, note: str = "") -> Result:
        began = time.monotonic()
        self._starting.append(name)
        result = await work
        self._starting.remove(name)
        self._terminal.ready(name, time.monotonic() - began, note=note)
        return result

    async def _report_progress(self) -> None:
        while True:
            await asyncio.sleep(STILL_SECONDS)
            if self._starting:
                self._terminal.say(f"  still starting: {', '.join(self._starting)}", style="dim")

    def _write(self, addresses: Addresses) -> None:
        """Writes `stack.json` for other programs and `env` for a shell."""
        members = {**asdict(addresses), "pids": self._pids, **self._more_members()}
        del members["storefront"]
        variables = {
            "PAYMENTS": f"{addresses.bridge}/api/v1/internal/payments",
            "SANDBOX": addresses.sandbox or "",
            "AMQP_URL": addresses.amqp,
            "DATABASE_URL": addresses.database,
        }
        commands = ":".join(shlex.quote(str(path)) for path in self._paths)
        lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        self._write_file("env", "\n".join([*lines, f'export PATH={commands}:"$PATH"', ""]))
        self._write_file("stack.json", json.dumps(members, indent=2) + "\n")

    def _more_members(self) -> dict[str, Any]:
        """What else `stack.json` says."""
        return {}

    def _write_file(self, name: str, text: str) -> None:
        """Whole or not at all; readable only by us, because it holds passwords."""
        new = self._folder / f"{name}.new"
        new.touch(mode=0o600)
        new.write_text(text)
        new.rename(self._folder / name)

    def _log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"

    def _environment(self) -> dict[str, str]:
        return {
            "LOG_FORMAT": "console",
            "GIT_COMMIT": commit(),
            **own_environment(),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            # The mark by which a later start finds the processes that an earlier, killed one has left.
            "BOOKTICKET_FOLDER": str(self._folder),
        }


def command_path(name: str, *, tree: Path = CHECKOUT) -> str:
    """The path of one of the project's commands: beside the Python that runs us, or of another checkout."""
    commands = Path(sys.executable).parent if tree == CHECKOUT else tree / ".venv/bin"
    return str(commands / name)


def _first(error: BaseException) -> BaseException:
    """The first failure of a group: the other parts were cancelled because of it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
