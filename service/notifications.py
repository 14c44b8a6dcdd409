"""Who is notified of a change: in the process that writes it, and in the others by PostgreSQL's NOTIFY."""

from collections.abc import Callable
from typing import Final

from service.adapters.postgres import OUTBOX_CHANNEL, READ_CHANNEL, WANTED_CHANNEL
from service.application.waiters import WaiterRegistry
from service.domain.status import Change, ChangeKind

_NO_EVENTS: Final = {ChangeKind.CREATED, ChangeKind.ADOPTED, ChangeKind.RENEWED}


def on_change(
    count: Callable[[Change], None], waiters: WaiterRegistry, wake: Callable[[], None]
) -> Callable[[Change], None]:
    """Report each change: to the metrics, if it is an event to this process's relay, if it is final to the waiters."""

    def report(change: Change) -> None:
        count(change)
        if change.kind not in _NO_EVENTS:
            wake()
        if change.payment.status.is_final:
            waiters.notify(change.payment.id)

    return report


def by_channel(waiters: WaiterRegistry) -> dict[str, Callable[[str], None]]:
    """By NOTIFY channel, what is done with the payload of another replica's notification.

    The seconds in a payload do not count its own way, which takes milliseconds; Stripe's own dates are less exact.
    """
    return {
        OUTBOX_CHANNEL: lambda payload: waiters.notify(int(payload)) if payload.isdecimal() else None,
        WANTED_CHANNEL: lambda _: waiters.request_read(here=False),
        READ_CHANNEL: lambda seconds: waiters.notify_read(seconds_ago=float(seconds)),
    }
