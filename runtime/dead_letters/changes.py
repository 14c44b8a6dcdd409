"""Replays and drops: what an operator decides about a letter, with its lines in the operators' journal."""

import functools
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from runtime.dead_letters.letter import Letter
from runtime.dead_letters.queues import BrokerError, DeadLetterQueues

FAILED: Final = "dead-letter-kept"
"""Journal kind: the act of the line before it failed, as far as we know."""


class LetterAct(StrEnum):
    """What can be done with a letter."""

    REPLAY = "replay"
    DROP = "drop"

    @property
    def done(self) -> str:
        """The word for an act that was done."""
        return {"replay": "replayed", "drop": "dropped"}[self.value]


class Journal(Protocol):
    """The operators' journal."""

    async def append(
        self, *, kind: str, actor: str, queue: str, message_id: str | None, reason: str, body_sha256: str
    ) -> None:
        """Write a line."""


async def change(
    letter: Letter,
    act: LetterAct,
    *,
    queues: DeadLetterQueues,
    journal: Journal,
    now: datetime,
    actor: str,
    why: str = "",
) -> None:
    """Do the act once its line is written: no act may be without a line, but a line without its act does no harm.

    `now` is the database's, so that a replayed command is not dated in the future.

    Raises:
        UnreplayableError: it can never be sent again; nothing was done.
        BrokerError: the broker is lost; the letter is probably still there.
    """
    properties = queues.prepared(letter, now=now) if act is LetterAct.REPLAY else None
    append = functools.partial(
        journal.append,
        actor=actor,
        queue=letter.queue,
        message_id=letter.message_id,
        reason=f"{letter.reason}: {why}" if why else letter.reason,
        body_sha256=letter.body_sha256,
    )
    await append(kind=f"dead-letter-{act.done}")
    try:
        if properties is not None:
            await queues.replay(letter, properties)
        else:
            await queues.remove(letter)
    except BrokerError:
        await append(kind=FAILED)
        raise
