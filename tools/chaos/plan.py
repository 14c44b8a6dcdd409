"""The buyers and faults of a run, all drawn from one `random.Random`: the same seed gives the same plan."""

from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random


class Strategy(StrEnum):
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
    CLOSED = "created, closed by an operator, then created again"


class Payer(StrEnum):
    """How the payer behaves on the payment page."""

    GOOD = "pays"
    SECOND_CARD = "is declined, then pays"
    SECURE = "pays with 3-D Secure"
    SLOW_MONEY = "pays by a delayed method, and the money comes later"
    DIFFERENT = "pays another amount than was asked"
    REFUNDED = "pays, and gets the money back in two parts"
    DISPUTED = "pays, and the bank takes the money back"
    NEVER = "never pays"


WAYS = dict(zip(Strategy, (30, 20, 10, 8, 8, 6, 6, 6, 6, 2), strict=True))
ASKING = 0.7
CLOSING = 0.5
PAYERS = dict(zip(Payer, (42, 10, 11, 7, 4, 5, 4, 17), strict=True))


@dataclass(frozen=True, kw_only=True)
class Buyer:
    """One booking. Amounts are both Java's text of a Double and the same amount in minor units."""

    booking: int
    at: float
    way: Strategy
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
    """After a fire-and-forget command: whether the buyer also creates over REST, which returns the session."""
    is_closed: bool
    """After another amount than was asked: whether an operator has dealt with the money and closes the payment."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of fault; `targets` are parts or links, each hit by one fault at a time.

    `tail`: about how long after the fault the ended parts need to be ready again. While a fault that is `alone` lasts,
    nothing else but kills happens.
    """

    name: str
    targets: tuple[str, ...]
    seconds: tuple[float, float]
    values: tuple[float, ...] = (0.0,)
    not_before: float = 0.0
    tail: float = 0.0
    alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, in seconds from the start of the load; the meaning of `value` depends on the kind."""

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
    Kind(name="Stripe refuses our account", targets=("stripe",), seconds=(2, 6)),
    Kind(name="Stripe's events late", targets=("events",), seconds=(10, 20), values=(3, 30)),
    Kind(name="Stripe's clock off", targets=("clock",), seconds=(4, 9), values=(-240, -60, 60, 240)),
    Kind(name="database restored", targets=("database",), seconds=(5, 12), not_before=25, tail=25, alone=True),
)
CALM_SECONDS = 5.0
"""Without faults at the start and the end, so that the plot also shows the undisturbed system."""
OVERLAPPING = 0.4
KILLED_SECONDS = 4.0
"""About the time from a kill until the process is ready again."""
MOST_AT_ONCE = 3
"""With more, an effect could not be attributed to one of them."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What happens in a run."""

    seed: int
    seconds: float
    buyers: list[Buyer]
    faults: list[Fault]


def draw(seed: int, *, seconds: float, operations: int, kills_per_minute: float) -> Plan:
    """The plan of a seed. Kills come in addition to the faults, at any moment."""
    random = Random(seed)  # noqa: S311 - repeatable, not secret
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
        asks=random.random() < ASKING,
        is_closed=random.random() < CLOSING,
    )


def _amount(random: Random) -> tuple[str, int]:
    """Three seats, multiplied as Doubles: 3 * 149.99 is 449.97000000000003."""
    seat = random.randrange(2_000, 90_000)
    return repr(seat / 100 * 3), seat * 3


def _faults(random: Random, seconds: float) -> list[Fault]:
    """Every kind once, in random order, before any is repeated."""
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
        at = max(at, busy.get(target, 0.0), end if kind.alone else 0.0)
        length = random.uniform(*kind.seconds)
        if at + length > seconds - CALM_SECONDS:
            break
        faults.append(_fault(kind.name, target, at, length, random.choice(kind.values)))
        end = max(end, at + length + kind.tail)
        busy[target] = at + length + kind.tail + 0.5
        together += 1
        if not kind.alone and together < MOST_AT_ONCE and random.random() < OVERLAPPING:
            at += random.uniform(0.3, 2.0)
        else:
            at, together = end + random.uniform(0.7, 2.0), 0
    return faults


def _kills(random: Random, seconds: float, per_minute: float) -> list[Fault]:
    """`kill -9` of services and bridges at the given rate; each process gets the time to be ready again."""
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
        kills.append(_fault(kind, target, at))
    return kills


def _fault(kind: str, target: str, at: float, seconds: float = 0.0, value: float = 0.0) -> Fault:
    return Fault(number=0, kind=kind, target=target, at=round(at, 2), seconds=round(seconds, 2), value=value)


def _numbered(faults: list[Fault]) -> list[Fault]:
    """Sorted by time and numbered from 1."""
    ordered = sorted(faults, key=lambda fault: fault.at)
    return [replace(fault, number=number) for number, fault in enumerate(ordered, start=1)]
