"""What an operator may say, and which letters that means."""

import argparse
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from contracts.commands import CommandType
from service.adapters.dead_letters import Letter

MAX_ACTOR_LENGTH: Final = 128
"""The column's."""

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which letters are meant: those that fit everything that is given."""

    ids: frozenset[str] = frozenset()
    command: CommandType | None = None
    reason: str | None = None
    older_than: timedelta | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing was given."""
        return self == Selection()

    def matches(self, letter: Letter, now: datetime) -> bool:
        """Whether the letter is meant. One whose age is not known is never old enough."""
        age = letter.age(now)
        return (
            (not self.ids or letter.message_id in self.ids or letter.properties.message_id in self.ids)
            and self.command in {None, letter.command}
            and self.reason in {None, letter.reason}
            and (self.older_than is None or (age is not None and age >= self.older_than))
        )


def add_parser(commands: Any) -> None:
    """`dead-letters` and its four actions, as sub-commands."""
    parser = commands.add_parser("dead-letters", help="look at commands that could not be done, and decide about them")
    actions = parser.add_subparsers(dest="action", required=True)
    looked = actions.add_parser("list", help="a line each, and how many per queue and reason; changes nothing")
    looked.add_argument("--limit", type=_count, metavar="N", help="at most N lines (the totals count all)")
    shown = actions.add_parser("show", help="all about one, for a person; changes nothing")
    shown.add_argument("ids", nargs=1, metavar="message-id")
    for action, does in (("replay", "send them again as new commands"), ("drop", "throw them away for good")):
        changed = actions.add_parser(action, help=f"{does}; with a line in the operator journal for each")
        changed.add_argument("ids", nargs="*", metavar="message-id")
        changed.add_argument("--all", action="store_true", help="every dead letter of every queue")
        changed.add_argument("--dry-run", action="store_true", help="only say what would be done")
        changed.add_argument(
            "--actor", type=_actor, metavar="NAME", help="who does it (default: the user of the system)"
        )
        _add_filters(changed)
    _add_filters(looked)


def selection_of(arguments: argparse.Namespace) -> Selection:
    """The selection that was given."""
    given = vars(arguments)
    return Selection(
        ids=frozenset(given.get("ids", ())),
        command=given.get("queue"),
        reason=given.get("reason"),
        older_than=given.get("older_than"),
    )


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queue", type=CommandType, choices=tuple(CommandType), help="of this command only")
    parser.add_argument("--reason", help="parked for this reason only, as list prints it")
    parser.add_argument("--older-than", type=_duration, metavar="30m|1h|2d", help="parked longer ago than this")


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError("must be a number and s, m, h or d, such as 30m")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:10]) == int(text)):
        raise argparse.ArgumentTypeError("must be a number from 1")
    return int(text)


def _actor(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > MAX_ACTOR_LENGTH:
        raise argparse.ArgumentTypeError("must be 1 to 128 printable characters")
    return text
