"""The commands of the local stack."""

import argparse
import asyncio
import contextlib
import os
import shlex
import shutil
from collections.abc import Coroutine
from typing import Any

from tools.devstack import interruption, stack_settings
from tools.devstack.addresses import Addresses
from tools.devstack.cluster.cluster_stack import Cluster
from tools.devstack.processes import LocalError
from tools.devstack.purchase import Purchase, PurchaseError
from tools.devstack.stack import Stack
from tools.devstack.stack_folder import end_all, only_one
from tools.devstack.stack_settings import Settings
from tools.devstack.terminal import Terminal


def main() -> int:
    """Runs a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.devstack", description="The whole system on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("run", help="start everything, make a sample purchase, stay up until Ctrl-C")
    commands.add_parser("demo", help="start everything, make a sample purchase, end everything")
    commands.add_parser("cluster", help="the same as run, without a single point of failure")
    commands.add_parser("clean", help="remove what the stack keeps; refused while it runs")
    command = parser.parse_args().command
    terminal = Terminal()
    try:
        if command == "clean":
            return interruption.run(_clean())
        with only_one(stack_settings.folder(os.environ)):
            kind = Cluster if command == "cluster" else Stack
            return interruption.run(_run(terminal, kind, stay=command != "demo"))
    except LocalError as error:
        terminal.failure(str(error))
        return 1
    except asyncio.CancelledError:
        return interruption.STATUS


async def _run(terminal: Terminal, kind: type[Stack], *, stay: bool) -> int:
    # Before looking for free ports: an earlier stack that was killed may still hold them.
    await end_all(stack_settings.folder(os.environ))
    settings = stack_settings.load(os.environ)
    stack = kind(settings, terminal)
    up = False
    try:
        terminal.title("BookTicket payments: everything on this machine")
        terminal.say(f"Data and logs are kept in {settings.folder}", style="dim")
        addresses = await stack.start()
        try:
            purchase = Purchase(addresses=addresses, terminal=terminal)
            await _unless_a_part_dies(stack, purchase.make(wait_for_person=stay))
        except PurchaseError as error:
            if not stay:
                raise
            terminal.failure(f"{error} Everything stays up, so that you can look.")
        up = True
        if stay:
            _print_addresses(settings, addresses, terminal)
            await stack.watch()
    except asyncio.CancelledError:
        terminal.say("\nending everything ...", style="dim")
        return 0 if up else interruption.STATUS
    finally:
        interruption.ignore()
        await stack.stop()
    return 0


async def _unless_a_part_dies(stack: Stack, work: Coroutine[Any, Any, None]) -> None:
    """Does the work while watching the stack: a part that ended explains a failed purchase better than its error."""
    watch = asyncio.create_task(stack.watch())
    working = asyncio.create_task(work)
    try:
        await asyncio.wait({watch, working}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
        else:
            await watch
    finally:
        for task in (watch, working):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(watch, working, return_exceptions=True)


def _print_addresses(settings: Settings, addresses: Addresses, terminal: Terminal) -> None:
    terminal.title("Everything is up. Ctrl-C ends it.")
    places = {
        "web shop": f"{addresses.storefront}/   (buy something yourself)",
        "console": f"{addresses.console}/   (what happened to a payment, and what to do about it)",
        "bridge": f"{addresses.bridge}/docs   (the REST API, to read and to try)",
        "service": f"{addresses.service}/asyncapi   (commands and events, to read)",
        "sandbox": f"{addresses.sandbox}/_sandbox/ledger" if addresses.sandbox else "Stripe's own test mode",
        "addresses": str(settings.folder / "stack.json"),
        "shell": f". {shlex.quote(str(settings.folder / 'env'))}   (the same as variables)",
        "logs": str(settings.folder / "logs"),
    }
    for name, place in places.items():
        terminal.say(f"  {name:<10} {place}")


async def _clean() -> int:
    folder = stack_settings.folder(os.environ)
    if not (folder / "lock").exists():
        return 0
    with only_one(folder):
        await end_all(folder)
        shutil.rmtree(folder)
    return 0
