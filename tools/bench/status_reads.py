"""P3: status reads through the whole system, compared with the bridge in front of an echo without a database.

Three variants alternate in slices of one run, so that noise of the machine affects all of them: `bare` is a plain
request-reply by aio-pika, `echo` the bridge in front of the same responder, `status` the whole system.
"""

import itertools
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tools.bench import bare_rpc, figures
from tools.bench.bench_system import UNPACED, Bench, sessions_of
from tools.bench.figures import Figure, Part, compared
from tools.bench.load_generator import Call, Http, bookings, closed_loop, http
from tools.devstack import rabbitmq_server

CALLERS = bare_rpc.CALLERS
PAYMENTS = 500
SLICES = 8
SLICE_SECONDS = 1.5
GOAL = 0.8


async def status_reads(bench: Bench) -> Part:
    """P3."""
    system = await bench.system(UNPACED)
    await system.stripe(latency_ms=0, rate_limits={})
    slices = 2 if bench.quick else SLICES
    rates: dict[str, list[float]] = {"bare": [], "echo": [], "status": []}
    errors = 0
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(http(system.bridges[0]))
        sessions = await sessions_of([client], PAYMENTS, bookings)
        # On its own broker, because the service would answer too.
        amqp_url = await stack.enter_async_context(_node(bench))
        bare, echo = await stack.enter_async_context(bare_rpc.round_trips(amqp_url))
        calls = {"bare": bare, "echo": echo, "status": _status(client, sessions)}
        for call in calls.values():
            await closed_loop(call, callers=CALLERS, seconds=1.0)
        for _ in range(slices):
            for name, call in calls.items():
                outcome = await closed_loop(call, callers=CALLERS, seconds=SLICE_SECONDS)
                rates[name].append(outcome.per_second)
                errors += outcome.errors
    return _part(rates, errors, slices)


def _part(rates: dict[str, list[float]], errors: int, slices: int) -> Part:
    middle = {name: statistics.median(values) for name, values in rates.items()}
    ratios = {
        pair: [ours / theirs for ours, theirs in zip(rates[pair[0]], rates[pair[1]], strict=True)]
        for pair in (("status", "echo"), ("echo", "bare"))
    }
    ratio = {pair: round(statistics.median(values), 2) for pair, values in ratios.items()}
    return Part(
        name="p3",
        title="Status reads",
        how=f"{CALLERS} callers, closed loop, {slices} slices of {SLICE_SECONDS} s of each variant in turn: "
        f"status reads of {PAYMENTS} payments through bridge, broker, service and database; the same bridge in "
        "front of an echo; and a bare request-reply by aio-pika with that echo.",
        figures=[
            compared("status reads/s", middle["status"], middle["echo"], "bridge + echo", unit="/s"),
            Figure("status reads, of bridge + echo (median of neighbours)", ratio["status", "echo"], at_least=GOAL),
            Figure("bridge + echo", middle["echo"], "/s", baseline=middle["bare"], against="bare aio-pika"),
            Figure("bridge + echo, of bare aio-pika (median of neighbours)", ratio["echo", "bare"], at_least=GOAL),
            Figure("errors", errors, at_most=0),
        ],
        plots=[
            figures.slices(
                {"status": rates["status"], "bridge + echo": rates["echo"], "bare aio-pika": rates["bare"]},
                "per second",
            )
        ],
        details={"per_second": rates},
    )


def _status(client: Http, sessions: list[str]) -> Call:
    each = itertools.cycle(sessions)

    async def call(_: int) -> int:
        return (await client.status(next(each))).status

    return call


@asynccontextmanager
async def _node(bench: Bench) -> AsyncIterator[str]:
    folder = bench.folder / "echo"
    node = await rabbitmq_server.start(folder, dies_with_us=True)
    try:
        yield node.url()
    finally:
        await rabbitmq_server.stop(folder)
