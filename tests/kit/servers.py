"""One folder for each test run, which the controller and every worker know, and the servers in it.

The first worker that needs a server starts it for all. The controller ends the servers when the run is over.
"""

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.kit.leaks import FOLDERS
from tools.devstack import postgres_server, rabbitmq_server

Result = TypeVar("Result")
SERVERS = pytest.StashKey[Path]()
STOPS = {"rabbitmq": rabbitmq_server.stop, "epmd": rabbitmq_server.stop, "postgres": postgres_server.stop}
"""What ends the server of a folder, by the name of its pid file, in this order."""


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end; pytest-asyncio's current loop stays as it is, and Ctrl-C cancels."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(coroutine)


def pytest_configure(config: pytest.Config) -> None:
    workerinput = getattr(config, "workerinput", None)
    folder = workerinput["servers"] if workerinput else tempfile.mkdtemp(prefix="bookticket-tests-")
    config.stash[SERVERS] = Path(folder)
    config.stash[FOLDERS] = [Path(folder)]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["servers"] = str(node.config.stash[SERVERS])


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    folder = config.stash[SERVERS]
    # A killed worker leaves its servers behind; their pid files are written first.
    for name, stop in STOPS.items():
        for pid_file in folder.glob(f"**/{name}.pid"):
            run(stop(pid_file.parent))
    shutil.rmtree(folder, ignore_errors=True)


def shared(folder: Path, name: str, start: Callable[[], str]) -> str:
    """The answer of `start` to the first worker that asks, for every worker."""
    record = folder / f"{name}.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not record.exists():
            record.write_text(start())
        return record.read_text()


@pytest.fixture(scope="session")
def servers_folder(pytestconfig: pytest.Config) -> Path:
    """The folder of this run's servers."""
    return pytestconfig.stash[SERVERS]


@pytest.fixture(scope="session")
def worker() -> str:
    """The name of this pytest-xdist worker, `gw0` without workers."""
    return os.environ.get("PYTEST_XDIST_WORKER", "gw0")


class PrivateServer:
    """A server of one worker, to be stopped, killed and started. It keeps its port and data.

    The methods block: call them by `asyncio.to_thread` where the loop has to go on.
    """

    def __init__(self, kind: Any, folder: Path, **options: Any) -> None:
        """`kind`: the module of `tools.devstack` that runs it."""
        self._kind, self._folder = kind, folder
        self._server = run(kind.start(folder, **options))
        self.url: str = self._server.url(*options.values())

    @property
    def pid(self) -> int:
        return int(self._server.pid)

    def stop(self) -> None:
        run(self._kind.stop(self._folder))

    def kill(self) -> None:
        run(self._kind.kill(self._folder))

    def start(self) -> None:
        self._server = run(self._kind.start(self._folder, port=self._server.port))
