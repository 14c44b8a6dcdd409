"""P1, P1b: a rush of buyers while Stripe limits its calls, compared with a service that only passes calls on."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tools.bench.bare_sdk import bare_sdk
from tools.bench.bench_system import LATENCY_MS, STRIPE_LIMIT, STRIPE_LIMITS, Bench, Meter, System, calls_between
from tools.bench.buyers import BridgeShop, Buyer, Crowd, Shop
from tools.bench.figures import Figure, Number, Part, Plot, bars, percentiles, stacked
from tools.bench.load_generator import OK, Latencies, http

SETTINGS = {"STRIPE_REQUESTS_PER_SECOND": "24.5"}
BUYERS, SECONDS, EARLY = 2000, 60.0, 1000
QUICK, NAIVE = 0.25, 0.4
"""The share of buyers and time of `--quick`, and of the baseline, which is slow; the rate is the same."""
PATIENCE_SECONDS, NAIVE_PATIENCE_SECONDS = 120.0, 60.0
"""How long a run may continue after the last arrival; unfinished buyers are counted."""
_READS = ("checkout.sessions.retrieve", "checkout.sessions.list", "events.list")
_CREATE = "checkout.sessions.create"


@dataclass(kw_only=True)
class Run:
    """The figures of a crowd, and the observations of each second."""

    crowd: Crowd
    seconds: list[dict[str, Any]] = field(default_factory=list)
    cores: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    limited: int = 0
    most_payable: int = 0

    @property
    def buyers(self) -> list[Buyer]:
        return self.crowd.buyers

    def times(self, since: str, until: str) -> Latencies:
        """The durations between two moments of a buyer, for buyers who reached both."""
        found = Latencies()
        for buyer in self.buyers:
            first, second = getattr(buyer, since), getattr(buyer, until)
            if first is not None and second is not None:
                found.record(second - first)
        return found

    def missing(self, moment: str) -> int:
        return sum(getattr(buyer, moment) is None for buyer in self.buyers)

    @property
    def reads(self) -> int:
        return sum(self.calls[name] for name in _READS)

    @property
    def errors(self) -> int:
        return sum(buyer.errors for buyer in self.buyers)

    @property
    def verify_errors(self) -> int:
        return self.crowd.verify_statuses.total() - self.crowd.verify_statuses[OK]

    @property
    def use_of_limit(self) -> float | None:
        """Creates served by Stripe as a share of its limit, in the seconds with at least one second's worth queued."""
        busy = [
            each for first, each in pairwise(self.seconds) if min(first["waiting"], each["waiting"]) >= STRIPE_LIMIT
        ]
        length = sum(each["length"] for each in busy)
        return round(sum(each["creates"] for each in busy) / length / STRIPE_LIMIT, 3) if length else None


async def rush(bench: Bench) -> Part:
    """P1."""
    return await _part(bench, name="p1", title="Rush", early=0)


async def rush_with_early_polls(bench: Bench) -> Part:
    """P1b."""
    return await _part(bench, name="p1b", title="Rush, and half of the buyers poll before they pay", early=EARLY)


async def _part(bench: Bench, *, name: str, title: str, early: int) -> Part:
    share = QUICK if bench.quick else 1.0
    system = await bench.system(SETTINGS, new=True)
    await system.stripe(latency_ms=LATENCY_MS, rate_limits=STRIPE_LIMITS)
    # Before ours: the service does not know these payments and so does not disturb the run.
    async with bare_sdk(system.where["sandbox"]) as stripe:
        naive = await _run(system, stripe, min(share, NAIVE), early, NAIVE_PATIENCE_SECONDS)
    await system.reset_stripe()
    await system.stripe(latency_ms=LATENCY_MS, rate_limits=STRIPE_LIMITS)
    bench.say(f"naive: {len(naive.buyers)} buyers, {naive.errors} errors on create; now ours ...")
    async with http(system.bridges[0]) as bridge:
        ours = await _run(system, BridgeShop(bridge), share, early, PATIENCE_SECONDS)
    bench.say(f"ours: {len(ours.buyers)} buyers, {ours.errors} errors on create")
    return Part(
        name=name,
        title=title,
        how=f"{len(ours.buyers):,} buyers in {ours.crowd.seconds:.0f} s: each creates, pays 5 to 20 s after the "
        "checkout, then verifies at once and every 2 s until COMPLETED"
        + (f"; {ours.crowd.early:,} of them also verify every 2 s from the checkout on, 15 times. " if early else ". ")
        + f"Stripe takes {LATENCY_MS} ms and serves {STRIPE_LIMIT} calls a second per endpoint, 100 in all. A refused "
        "create is repeated once after Retry-After; if that fails too the buyer begins anew with another booking.",
        figures=_figures(ours, naive),
        plots=_plots(ours, naive),
        notes=[
            _naive_in_words(naive),
            "Times are counted from when a request was due: the buyer's arrival, the payment, the next poll.",
        ],
        details={"ours": _details(ours), "naive": _details(naive)},
    )


def _naive_in_words(naive: Run) -> str:
    left = naive.missing("completed_at")
    return (
        f"Naive: {len(naive.buyers)} buyers, as many a second, for {naive.crowd.seconds:.0f} s at a service that sends "
        "each create and each poll to Stripe at once by the bare SDK and paces nothing; a longer rush is worse for it."
        + (f" {left} of them never read COMPLETED within the run, and are in no percentile." if left else "")
    )


async def _run(system: System, shop: Shop, share: float, early: int, patience_seconds: float) -> Run:
    async with http(system.where["sandbox"]) as payer:
        crowd = Crowd(
            shop=shop,
            pay=payer.pay,
            count=round(BUYERS * share),
            seconds=SECONDS * share,
            early=round(early * share),
            patience_seconds=patience_seconds,
        )
        run = Run(crowd=crowd)
        async with Meter(system=system) as meter:
            watching = asyncio.create_task(_watch(system, run))
            await crowd.run()
            watching.cancel()
    run.cores, run.calls, run.limited = meter.cores, meter.calls, meter.limited
    run.most_payable = (await system.stats())["max_payable_per_booking"]
    return run


async def _watch(system: System, run: Run) -> None:
    """Records each second: waiting buyers, and the calls that Stripe received and served."""
    before, then, began = await system.stats(), time.perf_counter(), time.perf_counter()
    while True:
        await asyncio.sleep(1)
        after, now = await system.stats(), time.perf_counter()
        calls, limited = calls_between(before, after)
        refused = after["calls"][_CREATE]["rate_limited"] - before["calls"][_CREATE]["rate_limited"]
        run.seconds.append(
            {
                "at": round(now - began, 1),
                "length": now - then,
                "waiting": run.crowd.waiting(now),
                "creates": calls[_CREATE] - refused,
                "reads": sum(calls[name] for name in _READS),
                "limited": limited,
            }
        )
        before, then = after, now


def _figures(ours: Run, naive: Run) -> list[Figure]:
    checkout, naive_checkout = ours.times("due", "checkout_at"), naive.times("due", "checkout_at")
    outcome, naive_outcome = ours.times("paid_at", "completed_at"), naive.times("paid_at", "completed_at")
    buyers = len(ours.buyers)
    paid = buyers - ours.missing("paid_at")

    def against(name: str, value: Number, baseline: Number, unit: str = "", **goal: Number) -> Figure:
        return Figure(name, value, unit, baseline=baseline, against="naive", **goal)

    def each(run: Run, count: int) -> float:
        """Per buyer, as the two crowds differ in size."""
        return round(count / len(run.buyers), 3)

    return [
        Figure("buyers without a checkout", ours.missing("checkout_at"), at_most=0),
        Figure("most refusals of one buyer", max(buyer.refusals for buyer in ours.buyers), at_most=1),
        against("refusals per buyer", each(ours, _refusals(ours)), each(naive, _refusals(naive))),
        Figure("errors to creating buyers", ours.errors, at_most=0),
        against("errors per creating buyer", each(ours, ours.errors), each(naive, naive.errors)),
        against("creates served, of Stripe's limit, in a queue", ours.use_of_limit, naive.use_of_limit, at_least=0.95),
        against("from arrival to checkout, p50", checkout.at(50), naive_checkout.at(50), "s"),
        against("from arrival to checkout, p99", checkout.at(99), naive_checkout.at(99), "s"),
        against("paid → COMPLETED, p50", outcome.at(50), naive_outcome.at(50), "s", at_most=0.4),
        against("paid → COMPLETED, p99", outcome.at(99), naive_outcome.at(99), "s", at_most=1.5),
        Figure("paid and never read COMPLETED", paid - (buyers - ours.missing("completed_at")), at_most=0),
        Figure("verifies answered with an error", ours.verify_errors, at_most=0),
        against("errors to verify per buyer", each(ours, ours.verify_errors), each(naive, naive.verify_errors)),
        Figure("429s at Stripe", ours.limited, at_most=0),
        against("429s at Stripe per buyer", each(ours, ours.limited), each(naive, naive.limited)),
        against("reads at Stripe per payment", each(ours, ours.reads), each(naive, naive.reads), at_most=1.3),
        Figure("most payable sessions of one booking", ours.most_payable, at_most=1),
    ]


def _refusals(run: Run) -> int:
    return sum(buyer.refusals for buyer in run.buyers)


def _plots(ours: Run, naive: Run) -> list[Plot]:
    at = [each["at"] for each in ours.seconds]
    outcome, baseline = (run.times("paid_at", "completed_at").curve() for run in (ours, naive))
    refusals = Counter(buyer.refusals for buyer in ours.buyers)
    waiting = {"buyers": [each["waiting"] for each in ours.seconds]}
    served = {name: _rates(ours, name) for name in ("creates", "reads")}
    return [
        Plot("Buyers who have come and have no checkout", at, waiting, "seconds", "buyers"),
        Plot("What Stripe serves", at, served, "seconds", "per second", goal=STRIPE_LIMIT, goal_name="Stripe's limit"),
        percentiles("From paid to COMPLETED", {"ours": outcome, "naive": baseline}, log=True),
        bars(
            "Refusals per buyer", {count: refusals[count] for count in range(max(refusals) + 1)}, "refusals", "buyers"
        ),
        stacked("Who uses the processor, on average", ["ours", "naive"], [ours.cores, naive.cores], "", "cores"),
    ]


def _rates(run: Run, name: str) -> list[Number]:
    return [round(each[name] / each["length"], 1) for each in run.seconds]


def _details(run: Run) -> dict[str, Any]:
    return {
        "buyers": len(run.buyers),
        "never_read_completed": run.missing("completed_at"),
        "refusals": dict(sorted(Counter(buyer.refusals for buyer in run.buyers).items())),
        "create_statuses": dict(run.crowd.create_statuses),
        "verify_statuses": dict(run.crowd.verify_statuses),
        "verify_ms": run.crowd.verifies.curve(),
        "checkout_ms": run.times("due", "checkout_at").curve(),
        "outcome_ms": run.times("paid_at", "completed_at").curve(),
        "calls_at_stripe": run.calls,
        "limited_at_stripe": run.limited,
        "cores": run.cores,
        "seconds": run.seconds,
    }
