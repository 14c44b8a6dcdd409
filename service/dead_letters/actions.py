"""The four actions. Each look takes what lies in the queues one by one, and gives back what it did not take away."""

import argparse
import getpass
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from contracts.commands import CommandType
from service.adapters.dead_letters import (
    BrokerError,
    DeadLetterQueues,
    Letter,
    UnreplayableError,
    escaped,
    one_line,
    opened,
)
from service.adapters.store import Database, OperatorJournal, OperatorLine, current_revision, newest_revision
from service.dead_letters.arguments import MAX_ACTOR_LENGTH, Selection, selection_of
from service.dead_letters.pages import heading, line_of, page_of
from service.entrypoints.broker import connect_url
from service.entrypoints.wire import survive_unreadable_properties
from service.settings import BrokerSettings, OperatorSettings

_CHANGES: Final = {"replay": ("dead-letter-replayed", "replayed"), "drop": ("dead-letter-dropped", "dropped")}
_FAILED: Final = "dead-letter-kept"
"""Journal kind: what the line before it announced could not be done, as far as we know."""


class RefusedError(Exception):
    """It would be a mistake to go on; the text is a sentence for an operator."""


def needs(arguments: argparse.Namespace) -> type[BrokerSettings]:
    """The settings of an action: looking needs no database."""
    return OperatorSettings if arguments.action in _CHANGES and not arguments.dry_run else BrokerSettings


async def run(arguments: argparse.Namespace, settings: BrokerSettings) -> int:
    """Do what was asked. 0 if all of it is done, 1 if something is not there or failed, 2 if it was refused."""
    survive_unreadable_properties()
    try:
        match arguments.action:
            case "list":
                return await _list(selection_of(arguments), settings, arguments.limit)
            case "show":
                return await _show(selection_of(arguments), settings)
            case _:
                return await _change(arguments, settings)
    except RefusedError as error:
        _complain(str(error))
        return 2
    except BrokerError as error:
        _complain(str(error))
        return 1
    except BrokenPipeError:  # `... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


async def _list(selection: Selection, settings: BrokerSettings, limit: int | None) -> int:
    now, totals = datetime.now(UTC), Counter[tuple[CommandType, str]]()
    async with opened(_url(settings)) as queues:
        async for letter in _selected(queues, selection, now):
            if totals.total() == 0:
                _say(heading())
            if limit is None or totals.total() < limit:
                _say(line_of(letter, now))
            totals[letter.command, letter.reason] += 1
    if not totals:
        _say("No dead letters." if selection.is_everything else "No such dead letters.")
        return 0
    _say("" if limit is None or totals.total() <= limit else f"... and {totals.total() - limit} more\n")
    for (command, reason), count in sorted(totals.items()):
        _say(f"{count:>6}  {command:<15}  {reason}")
    _say(f"{totals.total():>6}  in all")
    return 0


async def _show(selection: Selection, settings: BrokerSettings) -> int:
    now, found = datetime.now(UTC), 0
    async with opened(_url(settings)) as queues:
        async for letter in _selected(queues, selection, now):
            found += 1
            _say(page_of(letter, now))
    if not found:
        _complain("No dead letter has this message id; payment-service dead-letters list shows all.")
    return 0 if found else 1


async def _change(arguments: argparse.Namespace, settings: BrokerSettings) -> int:
    selection, kind_and_word = selection_of(arguments), _CHANGES[arguments.action]
    if selection.is_everything and not arguments.all:
        raise RefusedError(f"Say which to {arguments.action}: message ids, --queue, --reason, --older-than, or --all.")
    if arguments.all and not selection.is_everything:
        raise RefusedError("--all means every dead letter; it cannot stand beside a selection.")
    now, missing, counts = datetime.now(UTC), set(selection.ids), Counter[str]()
    word = kind_and_word[1] if not arguments.dry_run else f"would be {kind_and_word[1]}"
    try:
        async with _journal(arguments, settings) as journal, opened(_url(settings)) as queues:
            async for letter in _selected(queues, selection, now):
                missing -= {letter.message_id, letter.properties.message_id}
                try:
                    await _change_one(letter, arguments, queues, journal)
                except UnreplayableError as error:
                    counts["kept"] += 1
                    _say(f"kept, {error}: {line_of(letter, now)}")
                else:
                    counts[word] += 1
                    _say(f"{word}: {line_of(letter, now)}")
    finally:
        # Also when the broker or the database is lost half-way: the operator must know how far it came.
        _say(", ".join(f"{count} {what}" for what, count in counts.items()) + "." if counts else f"0 {word}.")
    for name in sorted(missing):
        _complain(f"No such dead letter: {one_line(name)}")
    return 1 if missing or counts["kept"] else 0


async def _change_one(
    letter: Letter, arguments: argparse.Namespace, queues: DeadLetterQueues, journal: OperatorJournal | None
) -> None:
    """The journal line comes first: an action without a line must not be, a line without its action does no harm."""
    replaying, now = arguments.action == "replay", datetime.now(UTC)
    properties = queues.prepared(letter, now=now) if replaying else None
    if journal is None:
        return
    actor = arguments.actor or _os_user()
    await journal.append(_journal_line(letter, _CHANGES[arguments.action][0], actor))
    try:
        if properties is not None:
            await queues.replay(letter, properties)
        else:
            await queues.remove(letter)
    except BrokerError:
        await journal.append(_journal_line(letter, _FAILED, actor))
        raise


@asynccontextmanager
async def _journal(arguments: argparse.Namespace, settings: BrokerSettings) -> AsyncGenerator[OperatorJournal | None]:
    """None if nothing is going to be done."""
    if arguments.dry_run or not isinstance(settings, OperatorSettings):
        yield None
        return
    database = Database(settings.database_url.get_secret_value())
    try:
        if await current_revision(database) != newest_revision():
            raise RefusedError("The database is not at the revision of this version: run payment-service migrate.")
        yield OperatorJournal(database)
    finally:
        await database.close()


def _journal_line(letter: Letter, kind: str, actor: str) -> OperatorLine:
    return OperatorLine(
        kind=kind,
        actor=actor,
        queue=letter.queue,
        message_id=letter.message_id,
        reason=letter.reason,
        body_sha256=letter.body_sha256,
        at=datetime.now(UTC),
    )


async def _selected(queues: DeadLetterQueues, selection: Selection, now: datetime) -> AsyncGenerator[Letter]:
    async for letter in queues.letters(CommandType if selection.command is None else (selection.command,)):
        if selection.matches(letter, now):
            yield letter
    if queues.unseen:
        _complain(f"{queues.unseen} more were not looked at: they lie behind those that stay where they are.")


def _os_user() -> str:
    try:
        return getpass.getuser()[:MAX_ACTOR_LENGTH]
    except (OSError, KeyError):  # a container whose user has no name
        return f"uid {os.getuid()}"


def _url(settings: BrokerSettings) -> str:
    return connect_url(settings.amqp_url.get_secret_value())


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"{escaped(text)}\n")
