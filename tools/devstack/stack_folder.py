"""The folder of a stack: one stack at a time uses it, and whatever it has started is ended by the pids in it."""

import asyncio
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tools.devstack import processes
from tools.devstack.processes import LocalError

# A part ends before the parts that it uses; the waits of all groups together bound what Ctrl-C takes.
ENDING: Final = (
    ("storefront", "bridge", "console"),
    ("service",),
    ("sandbox", "rabbitmq", "postgres", "patroni"),
    ("postmaster", "epmd", "etcd"),
)
PATIENCE_SECONDS: Final = 2.2
FIRST_SIGNAL: Final = {"postgres": signal.SIGINT, "postmaster": signal.SIGQUIT}


async def end_all(folder: Path) -> None:
    """Ends every process of the stack in `folder`, also of an earlier start, within 10 s; touches no other process."""
    for name in ("stack.json", "env"):
        (folder / name).unlink(missing_ok=True)
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
    """Ensures that one stack at a time uses `folder`; the kernel releases the lock however we end.

    Raises:
        LocalError: Another one uses it.
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
    """Our own parts have their pid files in the stack's folder, the servers in their own folders below.

    A postmaster that Patroni has started has its own in its data folder.
    """
    if name == "postmaster":
        return [*folder.glob("cluster/*/data/postmaster.pid")]
    return [*folder.glob(f"{name}*.pid"), *folder.glob(f"*/{name}.pid"), *folder.glob(f"cluster/*/{name}.pid")]
