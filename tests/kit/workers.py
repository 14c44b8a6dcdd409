"""The background workers with the usual parts."""

from typing import Any

from service.application.ports import Clock, EventPublisher, Outbox
from service.workers.relay import Relay
from service.workers.sweeper import Sweeper
from tests.kit.observers import CountingObserver
from tests.kit.world import World


def a_sweeper(world: World) -> Sweeper:
    return Sweeper(store=world.store, checkout=world.checkout, clock=world.clock, observer=CountingObserver())


def a_relay(outbox: Outbox, publisher: EventPublisher, clock: Clock, *, wakeup: Any = None) -> Relay:
    """`wakeup` is needed only by a relay that runs by itself."""
    return Relay(outbox=outbox, publisher=publisher, clock=clock, wakeup=wakeup, observer=CountingObserver())
