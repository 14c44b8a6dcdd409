"""What will happen, all of it drawn from one `random.Random`: the same seed is the same buyers and the same faults."""

from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random


class Way(StrEnum):
    """How a buyer's checkout is created."""

    PLAIN = "as the Booking Service does it, without a key"
    KEYED = "with an Idempotency-Key"
    AGAIN = "created, then created again with the same content"
    CHANGED = "created, then created with another amount, and the old page is tried"
    DROPPED = "the client drops the socket, then comes back with the same key"
    DESERTED = "the client drops the socket and never comes back"
    TWINS = "the same key at both bridges at once"
    MESSAGE = "a fire-and-forget command"
    COPIES = "a fire-and-forget command, delivered more than once"


class Payer(StrEnum):
    """What the person in front of the payment page does."""

    GOOD = "pays"
    SECOND_CARD = "is declined, then pays"
    SECURE = "pays with 3-D Secure"
    NEVER = "never pays"


WAYS = {
    Way.PLAIN: 30,
    Way.KEYED: 20,
    Way.AGAIN: 10,
    Way.CHANGED: 8,
    Way.DROPPED: 8,
    Way.DESERTED: 6,
    Way.TWINS: 6,
    Way.MESSAGE: 6,
    Way.COPIES: 6,
}
PAYERS = {Payer.GOOD: 55, Payer.SECOND_CARD: 12, Payer.SECURE: 13, Payer.NEVER: 20}


@dataclass(frozen=True, kw_only=True)
class Buyer:
    """One booking. Amounts are the text that Java prints for its Double, and what it means in minor units."""

    booking: int
    at: float
    way: Way
    payer: Payer
    amount: str
    minor: int
    other_amount: str
    other_minor: int
    bridge: int
    other_bridge: int
    drop_seconds: float
    think_seconds: float
    polls: int
    asks: bool
    """After a fire-and-forget command: whether it also creates over REST, and so learns of the session."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of fault; `targets` are parts or links, of which no two faults have the same at once.

    `tail`: about how long it takes, after the fault's own seconds, until what was ended is up again.
    """

    name: str
    targets: tuple[str, ...]
    seconds: tuple[float, float]
    values: tuple[float, ...] = (0.0,)
    not_before: float = 0.0
    tail: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, seconds from the start of the load; `value` is its kind's own measure."""

    number: int
    kind: str
    target: str
    at: float
    seconds: float
    value: float


SERVICES, BRIDGES = ("service-1", "service-2"), ("bridge-1", "bridge-2")
LINKS = ("bridges-broker", "services-broker", "services-database", "services-stripe")
KINDS = (
    Kind(name="service killed", targets=SERVICES, seconds=(0, 0), tail=3),
    Kind(name="bridge killed", targets=BRIDGES, seconds=(0, 0), tail=2),
    Kind(name="broker killed", targets=("broker",), seconds=(0.2, 3), not_before=25, tail=7),
    Kind(name="database killed", targets=("database",), seconds=(0.2, 3), tail=1),
    Kind(name="services rolled", targets=("services",), seconds=(0, 0), tail=8),
    Kind(name="bridges rolled", targets=("bridges",), seconds=(0, 0), tail=5),
    Kind(name="link refuses", targets=LINKS, seconds=(1, 5)),
    Kind(name="link black hole", targets=LINKS, seconds=(3, 12)),
    Kind(name="link reset", targets=LINKS, seconds=(0, 0)),
    Kind(name="link slow", targets=LINKS, seconds=(3, 8), values=(0.1, 0.3, 0.8)),
    Kind(name="database sessions ended", targets=("database",), seconds=(0, 0)),
    Kind(name="Stripe slow", targets=("stripe",), seconds=(4, 9), values=(5000,)),
    Kind(name="Stripe errors", targets=("stripe",), seconds=(3, 7), values=(0.3, 0.6, 0.95)),
    Kind(name="Stripe down", targets=("stripe",), seconds=(2, 6)),
    Kind(name="Stripe answers dropped", targets=("stripe",), seconds=(2, 5), values=(5, 20)),
    Kind(name="Stripe rate limits", targets=("stripe",), seconds=(3, 8), values=(2, 5)),
)
CALM_SECONDS = 5.0
"""Before the first fault, and at the end: what an undisturbed system does belongs into the picture."""
OVERLAPPING = 0.4
KILLED_SECONDS = 4.0
"""From a kill until the process is up again, about."""
MOST_AT_ONCE = 3
"""More than that, and nobody can say which of them it was."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    seed: int
    seconds: float
    buyers: list[Buyer]
    faults: list[Fault]


def draw(seed: int, *, seconds: float, operations: int, kills_per_minute: float) -> Plan:
    """The plan of a seed. The kills come on top of the faults, whatever else is broken at that moment."""
    random = Random(seed)  # noqa: S311 - to be repeated, not to be secret
    faults = _numbered(_faults(random, seconds) + _kills(random, seconds, kills_per_minute))
    buyers = [_buyer(random, number, seconds * number / operations) for number in range(operations)]
    return Plan(seed=seed, seconds=seconds, buyers=buyers, faults=faults)


def _buyer(random: Random, number: int, at: float) -> Buyer:
    amount, minor = _amount(random)
    other_amount, other_minor = _amount(random)
    return Buyer(
        booking=1000 + number,
        at=at,
        way=random.choices([*WAYS], [*WAYS.values()])[0],
        payer=random.choices([*PAYERS], [*PAYERS.values()])[0],
        amount=amount,
        minor=minor,
        other_amount=other_amount,
        other_minor=other_minor,
        bridge=random.randrange(2),
        other_bridge=random.randrange(2),
        drop_seconds=random.uniform(0.005, 0.5),
        think_seconds=random.uniform(0.2, 3.0),
        polls=random.randint(1, 6),
        asks=random.random() < 0.7,
    )


def _amount(random: Random) -> tuple[str, int]:
    """Three seats, multiplied as Doubles: 3 * 149.99 is 449.97000000000003."""
    seat = random.randrange(2_000, 90_000)
    return repr(seat / 100 * 3), seat * 3


def _faults(random: Random, seconds: float) -> list[Fault]:
    """Every kind once, in random order, before any comes again."""
    faults: list[Fault] = []
    bag: list[Kind] = []
    busy: dict[str, float] = {}
    at, end, together = CALM_SECONDS, CALM_SECONDS, 0
    while at < seconds - CALM_SECONDS:
        if not bag:
            bag = random.sample(KINDS, len(KINDS))
        kind = next((kind for kind in bag if kind.not_before <= at), None)
        if kind is None:
            at += 1.0
            continue
        bag.remove(kind)
        target = random.choice(kind.targets)
        at = max(at, busy.get(target, 0.0))
        length = random.uniform(*kind.seconds)
        if at + length > seconds - CALM_SECONDS:
            break
        value = random.choice(kind.values)
        faults.append(
            Fault(
                number=len(faults) + 1,
                kind=kind.name,
                target=target,
                at=round(at, 2),
                seconds=round(length, 2),
                value=value,
            )
        )
        end = max(end, at + length + kind.tail)
        busy[target] = at + length + kind.tail + 0.5
        together += 1
        if together < MOST_AT_ONCE and random.random() < OVERLAPPING:
            at += random.uniform(0.3, 2.0)
        else:
            at, together = end + random.uniform(0.7, 2.0), 0
    return faults


def _kills(random: Random, seconds: float, per_minute: float) -> list[Fault]:
    """`kill -9` of a service or a bridge, again and again; each is given the time to be up again."""
    kills: list[Fault] = []
    up_at: dict[str, float] = {}
    at = CALM_SECONDS
    while per_minute and (at := at + random.uniform(0.5, 1.5) * 60 / per_minute) < seconds - CALM_SECONDS:
        targets = [name for name in (*SERVICES, *BRIDGES) if up_at.get(name, 0.0) <= at]
        if not targets:
            continue
        target = random.choice(targets)
        up_at[target] = at + KILLED_SECONDS
        kind = "service killed" if target in SERVICES else "bridge killed"
        kills.append(Fault(number=0, kind=kind, target=target, at=round(at, 2), seconds=0.0, value=0.0))
    return kills


def _numbered(faults: list[Fault]) -> list[Fault]:
    """In the order of their times."""
    ordered = sorted(faults, key=lambda fault: fault.at)
    return [replace(fault, number=number) for number, fault in enumerate(ordered, start=1)]
