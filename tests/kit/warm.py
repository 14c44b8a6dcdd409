"""Imports our programs once, and forks one of them for each connection; `tests/kit/forks.py` starts it and asks.

A service takes two seconds of a processor to import what it needs, and the tests start some hundred. A fork has
everything else of a process: arguments, environment, folder, signals, output and exit status of its own.

A connection brings the first three as JSON, and the descriptor of the output. It is told the pid, and the exit status
when the process has ended. All end when the standard input does, which the tests hold open.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
from typing import Any, Final

COMMANDS: Final = ("check", "close", "dead_letters", "ending", "events", "list", "migrate", "reconcile", "run", "show")
MODULES: Final = ("bridge.check", "bridge.serve", "console.check", "console.process", "service.bootstrap")
LONGEST: Final = 1 << 20


def main() -> None:
    """Serve the connections; in a child, become the program."""
    for name in (*MODULES, *(f"service.cli.{command}" for command in COMMANDS)):
        importlib.import_module(name)
    gc.freeze()  # or each fork would walk all of that, and so copy it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end this one by its input
    wish, out = wanted(socket.socket(fileno=int(sys.argv[1])))
    become(wish, out)
    program, *sys.argv[1:] = wish["arguments"]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


def wanted(listener: socket.socket) -> tuple[Any, int]:
    """Forks at each connection. Returns in the children only."""
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    askers: dict[int, socket.socket] = {}
    while True:
        readable: list[Any] = [0, listener, woken]
        ready, _, _ = select.select(readable, [], [])
        if 0 in ready:
            for pid in askers:
                os.kill(pid, signal.SIGKILL)
            os._exit(0)
        if woken in ready:
            os.read(woken, LONGEST)
            tell_of_the_dead(askers)
        if listener in ready:
            asker, _ = listener.accept()
            content, [out], *_ = socket.recv_fds(asker, LONGEST, 1)
            while more := asker.recv(LONGEST):
                content += more
            if (pid := os.fork()) == 0:
                return json.loads(content), out
            os.close(out)
            askers[pid] = asker
            asker.sendall(f"{pid}\n".encode())


def tell_of_the_dead(askers: dict[int, socket.socket]) -> None:
    while askers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with contextlib.suppress(OSError), askers.pop(pid) as asker:
            asker.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def become(wish: dict[str, Any], out: int) -> None:
    """Take on what the process is started with; nothing of this one stays open."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.closerange(3, LONGEST)
    os.environ.clear()
    os.environ.update(wish["environment"])
    time.tzset()
    os.chdir(wish["folder"])


if __name__ == "__main__":
    main()
