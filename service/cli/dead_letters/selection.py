"""Which letters the command line selects."""

import argparse
from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.commands import CommandType
from runtime.dead_letters.letter import Letter


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Selects the letters that match every given member."""

    ids: frozenset[str] = frozenset()
    command: CommandType | None = None
    reason: str | None = None
    older_than: timedelta | None = None

    @property
    def is_everything(self) -> bool:
        """Whether no member is given."""
        return self == Selection()

    def matches(self, letter: Letter, now: datetime) -> bool:
        """Whether the letter is selected. A letter of unknown age is never old enough."""
        age = letter.age(now)
        return (
            (not self.ids or letter.message_id in self.ids or letter.properties.message_id in self.ids)
            and self.command in {None, letter.command}
            and self.reason in {None, letter.reason}
            and (self.older_than is None or (age is not None and age >= self.older_than))
        )


def selection_of(arguments: argparse.Namespace) -> Selection:
    """The selection on the command line."""
    given = vars(arguments)
    queue = given.get("queue")
    return Selection(
        ids=frozenset(given.get("ids", ())),
        command=None if queue is None else CommandType(queue),
        reason=given.get("reason"),
        older_than=given.get("older_than"),
    )
