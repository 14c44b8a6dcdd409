"""The commands of the local stack."""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Coroutine
from typing import Any, Final

from deploy.local import settings as local_settings
from deploy.local.console import Teller
from deploy.local.processes import LocalError
from deploy.local.purchase import Purchase
from deploy.local.settings import Settings
from deploy.local.stack import Addresses, Stack, end_all, only_one

INTERRUPTED: Final = 130
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Runs a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description="The whole system on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("run", help="start everything, make a sample purchase, stay up until Ctrl-C")
    commands.add_parser("demo", help="start everything, make a sample purchase, end everything")
    commands.add_parser("clean", help="remove what the stack keeps; refused while it runs")
    command = parser.parse_args().command
    teller = Teller()
    try:
        if command == "clean":
            return _until_interrupted(_clean())
        with only_one(local_settings.folder(os.environ)):
            return _until_interrupted(_run(teller, stay=command == "run"))
    except LocalError as error:
        teller.failure(str(error))
        return 1


async def _run(teller: Teller, *, stay: bool) -> int:
    folder = local_settings.folder(os.environ)
    # Before looking for free ports: an earlier stack that was killed may still hold them.
    await end_all(folder)
    settings = local_settings.load(os.environ)
    stack = Stack(settings, teller)
    up = False
    try:
        teller.title("BookTicket payments: everything on this machine")
        teller.say(f"Data and logs are kept in {settings.folder}", style="dim")
        addresses = await stack.start()
        await _unless_a_part_dies(stack, Purchase(addresses=addresses, teller=teller).make(wait_for_person=stay))
        up = True
        if stay:
            _tell_where(settings, addresses, teller)
            await stack.watch()
    except asyncio.CancelledError:
        teller.say("\nending everything ...", style="dim")
        return 0 if up else INTERRUPTED
    finally:
        _ignore_signals()
        await stack.stop()
    return 0


async def _unless_a_part_dies(stack: Stack, work: Coroutine[Any, Any, None]) -> None:
    """Does the work while watching the stack: a part that died explains a failed purchase better than the purchase."""
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


def _tell_where(settings: Settings, addresses: Addresses, teller: Teller) -> None:
    teller.title("Everything is up. Ctrl-C ends it.")
    places = {
        "web shop": f"{addresses.storefront}/   (buy something yourself)",
        "bridge": f"{addresses.bridge}/docs   (the REST API, to read and to try)",
        "service": f"{addresses.service}/asyncapi   (commands and events, to read)",
        "sandbox": f"{addresses.sandbox}/_sandbox/ledger" if addresses.sandbox else "Stripe's own test mode",
        "addresses": str(settings.folder / "stack.json"),
        "logs": str(settings.folder / "logs"),
    }
    for name, place in places.items():
        teller.say(f"  {name:<10} {place}")


async def _clean() -> int:
    folder = local_settings.folder(os.environ)
    if not (folder / "lock").exists():
        return 0
    with only_one(folder):
        await end_all(folder)
        shutil.rmtree(folder)
    return 0


def _until_interrupted(work: Coroutine[Any, Any, int]) -> int:
    """Runs it; Ctrl-C, SIGTERM and a closed terminal cancel it once. A second Ctrl-C does not disturb the ending."""

    async def cancellable() -> int:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, _cancel_once, task)
        return await task

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        return INTERRUPTED


def _cancel_once(task: asyncio.Task[int]) -> None:
    if not task.cancelling():
        task.cancel()


def _ignore_signals() -> None:
    """The ending is bounded anyway; a second Ctrl-C, out of impatience, must not leave processes behind."""
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
