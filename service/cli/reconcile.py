"""`payment-service reconcile`: holds Stripe's sessions against the payments here, and tells each difference."""

import argparse
import asyncio
import json
import sys
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from typing import Final

from runtime.health import Build
from service import pinning, startup
from service.adapters.postgres import DatabaseClock, PostgresStore, why
from service.application.differences import Difference, described, sentence
from service.application.event_reader import UnreadError
from service.application.outcome_writer import OutcomeWriter
from service.application.reconciliation import AHEAD, EVER, Reconciliation, Stretch
from service.application.told_session import ToldSessions
from service.cli.argument_types import resolved
from service.domain.errors import StoreUnavailableError
from service.metrics import Metrics
from service.settings import Settings

PROGRESS_SECONDS: Final = 2.0


def needs(_: argparse.Namespace) -> type[Settings]:
    """Its settings."""
    return Settings


async def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Compare, and print; the exit status."""
    async with AsyncExitStack() as stack:
        reconciliation = await _built(settings, stack)
        now = reconciliation.clock.now()
        since, until = max(resolved(arguments.since, now), EVER), now + AHEAD
        if arguments.until is not None:
            until = min(resolved(arguments.until, now), until)
        if since >= until:
            sys.stderr.write("payment-service reconcile: --since must be before --until.\n")
            return 2
        printer = _Printer(is_json=arguments.json, is_fixing=arguments.fix, reached=since)
        try:
            async with aclosing(reconciliation.run(since=since, until=until, fix=arguments.fix)) as stretches:
                async for stretch in stretches:
                    printer.print(stretch, until)
        except UnreadError as error:
            printer.stopped(f"Stripe cannot be asked ({error})")
            return 1
        except StoreUnavailableError as error:
            printer.stopped(f"the database (DATABASE_URL) {why(error)}")
            return 1
        except asyncio.CancelledError:
            printer.stopped("interrupted")
            raise
        printer.end()
        return 1 if printer.left else 0


async def _built(settings: Settings, stack: AsyncExitStack) -> Reconciliation:
    metrics = Metrics(Build.installed("payment-service", commit=settings.git_commit))
    database = await startup.connected_database(settings, stack)
    if (problem := await pinning.problem_of(database, *await pinning.account_of(settings))) is not None:
        raise startup.StartError(problem)
    clock = DatabaseClock(database)
    await clock.measure()
    gateway, _ = await startup.built_gateway(settings, stack, database, observer=metrics, clock=clock)
    store = PostgresStore(database)
    told_sessions = ToldSessions(
        store=store,
        gateway=gateway,
        outcomes=OutcomeWriter(store=store, clock=clock),
        clock=clock,
        gateway_timeout_seconds=startup.GATEWAY_TIMEOUT_SECONDS,
        observer=metrics,
    )
    return Reconciliation(
        store=store,
        gateway=gateway,
        told_sessions=told_sessions,
        clock=clock,
        gateway_timeout_seconds=startup.GATEWAY_TIMEOUT_SECONDS,
        grace_seconds=2 * settings.feed_interval_seconds + 1,
    )


class _Printer:
    """Differences to stdout as they are found, how far it is to stderr."""

    def __init__(self, *, is_json: bool, is_fixing: bool, reached: datetime) -> None:
        self._is_json, self._is_fixing, self._reached = is_json, is_fixing, reached
        self._sessions = self._payments = self._differences = self.left = 0
        self._told_at = asyncio.get_running_loop().time()

    def print(self, stretch: Stretch, until: datetime) -> None:
        self._sessions += stretch.sessions
        self._payments += stretch.payments
        self._reached = max(self._reached, stretch.until)
        for found in stretch.differences:
            self._print_one(found)
        sys.stdout.flush()
        now = asyncio.get_running_loop().time()
        if now >= self._told_at + PROGRESS_SECONDS:
            self._told_at = now
            sys.stderr.write(f"{_text(self._reached)} of {_text(until)}: {self._counts()}\n")

    def _print_one(self, found: Difference) -> None:
        self._differences += 1
        self.left += not found.is_mended
        sys.stdout.write((json.dumps(described(found)) if self._is_json else sentence(found)) + "\n")

    def _counts(self) -> str:
        mended = f", {self._differences - self.left} of them mended" if self._is_fixing else ""
        return f"{self._sessions} sessions, {self._payments} payments, {self._differences} differences{mended}"

    def end(self) -> None:
        if self._is_json:
            numbers = {"sessions": self._sessions, "payments": self._payments, "differences": self._differences}
            sys.stdout.write(json.dumps({**numbers, "left": self.left, "until": _text(self._reached)}) + "\n")
        else:
            sys.stdout.write(f"{self._counts()}.\n")

    def stopped(self, why: str) -> None:
        reached = _text(self._reached)
        sys.stderr.write(
            f"payment-service reconcile: {why}. Compared until {reached}: {self._counts()}."
            f" Go on with --since {reached}.\n"
        )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
