"""The four actions. Each takes the letters from the queues one by one, and gives back those that it did not remove."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from contracts.commands import CommandType
from runtime.amqp_compat import survive_unreadable_properties
from runtime.dead_letters.changes import LetterAct, change
from runtime.dead_letters.letter import Letter, escaped, one_line
from runtime.dead_letters.queues import BrokerError, DeadLetterQueues, UnreplayableError, opened
from runtime.process_settings import BrokerSettings
from service.adapters.postgres import Database, OperatorJournal, PostgresStore, database_now, revision_problem
from service.application.replay_effect import ReplayEffect, effect_of
from service.cli.actor import os_user
from service.cli.dead_letters.listing import described, fully_described, heading, line_of, page_of
from service.cli.dead_letters.selection import Selection, selection_of
from service.entrypoints.broker import connect_url
from service.settings import OperatorSettings


class RefusedError(Exception):
    """The action is refused; the text is a sentence for an operator."""


def needs(arguments: argparse.Namespace) -> type[BrokerSettings]:
    """The settings of an action: reading needs no database, unless it says what a replay would replace."""
    changes = arguments.action in set(LetterAct) and not arguments.dry_run
    return OperatorSettings if changes or arguments.action == "replay" else BrokerSettings


async def run(arguments: argparse.Namespace, settings: BrokerSettings) -> int:
    """Run the action; 0 if all of it is done, 1 if something is missing or failed, 2 if it was refused."""
    survive_unreadable_properties()
    try:
        match arguments.action:
            case "list":
                return await _list(arguments, settings)
            case "show":
                return await _show(arguments, settings)
            case _:
                return await _change(arguments, settings)
    except (RefusedError, BrokerError) as error:
        _complain(str(error))
        return 2 if isinstance(error, RefusedError) else 1


async def _list(arguments: argparse.Namespace, settings: BrokerSettings) -> int:
    selection, limit, as_json = selection_of(arguments), arguments.limit, arguments.json
    now, totals = datetime.now(UTC), Counter[tuple[CommandType, str]]()
    async with opened(_url(settings)) as queues:
        async for letter in _selected(queues, selection, now):
            if totals.total() == 0 and not as_json:
                _say(heading())
            if limit is None or totals.total() < limit:
                _say(json.dumps(described(letter)) if as_json else line_of(letter, now))
            totals[letter.command, letter.reason] += 1
    if not as_json:
        _say_totals(totals, selection, limit)
    return 0


def _say_totals(totals: Counter[tuple[CommandType, str]], selection: Selection, limit: int | None) -> None:
    if not totals:
        _say("No dead letters." if selection.is_everything else "No such dead letters.")
        return
    _say("" if limit is None or totals.total() <= limit else f"... and {totals.total() - limit} more\n")
    for (command, reason), count in sorted(totals.items()):
        _say(f"{count:>6}  {command:<15}  {reason}")
    _say(f"{totals.total():>6}  in all")


async def _show(arguments: argparse.Namespace, settings: BrokerSettings) -> int:
    now, found = datetime.now(UTC), 0
    async with opened(_url(settings)) as queues:
        async for letter in _selected(queues, selection_of(arguments), now):
            found += 1
            _say(json.dumps(fully_described(letter)) if arguments.json else page_of(letter, now))
    if not found:
        _complain("No dead letter has this message id; payment-service dead-letters list shows all.")
    return 0 if found else 1


async def _change(arguments: argparse.Namespace, settings: BrokerSettings) -> int:
    selection, done = selection_of(arguments), LetterAct(arguments.action).done
    if selection.is_everything and not arguments.all:
        raise RefusedError(f"Say which to {arguments.action}: message ids, --queue, --reason, --older-than, or --all.")
    if arguments.all and not selection.is_everything:
        raise RefusedError("--all means every dead letter; it cannot stand beside a selection.")
    if arguments.all and not arguments.dry_run and not arguments.yes:
        await _ask(arguments, settings)
    missing, counts = set(selection.ids), Counter[str]()
    word = f"would be {done}" if arguments.dry_run else done
    try:
        async with _database(settings) as database, opened(_url(settings)) as queues:
            now = datetime.now(UTC) if database is None else await database_now(database)
            journal = None if database is None or arguments.dry_run else OperatorJournal(database)
            store = PostgresStore(database) if database is not None and arguments.action == "replay" else None
            async for letter in _selected(queues, selection, now):
                missing -= {letter.message_id, letter.properties.message_id}
                effect = ReplayEffect() if store is None else await effect_of(letter, store, now)
                kept = await _change_one(letter, arguments, queues, journal, effect=effect, now=now)
                counts[word if kept is None else "kept"] += 1
                _say_done(letter, now, result=word, effect=effect, kept=kept, as_json=arguments.json)
    finally:
        # Also if the broker or the database is lost half-way: the operator must know how far it came.
        totals = ", ".join(f"{count} {what}" for what, count in counts.items()) + "." if counts else f"0 {word}."
        (sys.stderr if arguments.json else sys.stdout).write(f"{totals}\n")
    for name in sorted(missing):
        _complain(f"No such dead letter: {one_line(name)}")
    return 1 if missing or counts["kept"] else 0


async def _ask(arguments: argparse.Namespace, settings: BrokerSettings) -> None:
    """Whether all are meant. Raises RefusedError unless a person says so."""
    if not sys.stdin.isatty():
        raise RefusedError(f"{arguments.action} --all needs --yes where nobody can be asked.")
    async with opened(_url(settings)) as queues:
        count = await queues.count()
    sys.stderr.write(f"{arguments.action.capitalize()} all {count} dead letters of every queue? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise RefusedError("Nothing was changed.")


def _say_done(
    letter: Letter, now: datetime, *, result: str, effect: ReplayEffect, kept: str | None, as_json: bool
) -> None:
    if as_json:
        told = {"result": result if kept is None else "kept", "effect": effect.text or None, "why": kept}
        _say(json.dumps(told | described(letter)))
        return
    after = f"; {effect.text}" if effect.text else ""
    _say(f"{result if kept is None else f'kept, {kept}'}: {line_of(letter, now)}{after}")


async def _change_one(
    letter: Letter,
    arguments: argparse.Namespace,
    queues: DeadLetterQueues,
    journal: OperatorJournal | None,
    *,
    effect: ReplayEffect,
    now: datetime,
) -> str | None:
    """Why the letter is kept; None if it is not."""
    if effect.futile is not None and not arguments.force:
        return f"{effect.futile} (--force sends it all the same)"
    act = LetterAct(arguments.action)
    try:
        if journal is not None:
            await change(letter, act, queues=queues, journal=journal, now=now, actor=arguments.actor or os_user())
        elif act is LetterAct.REPLAY:
            queues.prepared(letter, now=now)
    except UnreplayableError as error:
        return str(error)
    return None


@asynccontextmanager
async def _database(settings: BrokerSettings) -> AsyncGenerator[Database | None]:
    """None if the action needs none."""
    if not isinstance(settings, OperatorSettings):
        yield None
        return
    database = Database(settings.database_url.get_secret_value())
    try:
        if await revision_problem(database) is not None:
            raise RefusedError("The database is not at the revision of this version: run payment-service migrate.")
        yield database
    finally:
        await database.close()


async def _selected(queues: DeadLetterQueues, selection: Selection, now: datetime) -> AsyncGenerator[Letter]:
    async for letter in queues.letters(CommandType if selection.command is None else (selection.command,)):
        if selection.matches(letter, now):
            yield letter
    if queues.unseen:
        _complain(f"{queues.unseen} more were not looked at: they lie behind those that stay where they are.")


def _url(settings: BrokerSettings) -> str:
    return connect_url(settings.amqp_url.get_secret_value())


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"{escaped(text)}\n")
