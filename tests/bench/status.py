"""P3: status reads through everything, against the same HTTP in front of an echo that knows no database.

Three ways, in alternating slices of one run so that the machine's noise hits all of them: `bare` is a request-reply by
aio-pika as one would write it down; `echo` is the bridge in front of the same responder; `status` is the whole system.
"""

import itertools
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from deploy.local import rabbitmq
from tests.bench import requester
from tests.bench.figures import Figure, Part, Plot
from tests.bench.load import Call, Http, bookings, closed_loop, http
from tests.bench.system import UNPACED, Bench, sessions_of

CALLERS = requester.CALLERS
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
        # On a broker of its own: the service would answer too.
        amqp_url = await stack.enter_async_context(_node(bench))
        bare, echo = await stack.enter_async_context(requester.ways(amqp_url))
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
        how=f"{CALLERS} callers, closed loop, {slices} slices of {SLICE_SECONDS} s of each way in turn: status reads "
        f"of {PAYMENTS} payments through bridge, broker, service and database; the same bridge in front of an echo; "
        "and a bare request-reply by aio-pika with that echo.",
        figures=[
            Figure(
                name="status reads/s",
                value=middle["status"],
                unit="/s",
                baseline=middle["echo"],
                against="bridge + echo",
            ),
            Figure(
                name="status reads, of bridge + echo (median of neighbours)",
                value=ratio["status", "echo"],
                at_least=GOAL,
            ),
            Figure(
                name="bridge + echo", value=middle["echo"], unit="/s", baseline=middle["bare"], against="bare aio-pika"
            ),
            Figure(
                name="bridge + echo, of bare aio-pika (median of neighbours)",
                value=ratio["echo", "bare"],
                at_least=GOAL,
            ),
            Figure(name="errors", value=errors, at_most=0),
        ],
        plots=[
            Plot(
                title="Each slice",
                x=list(range(1, slices + 1)),
                series={"status": rates["status"], "bridge + echo": rates["echo"], "bare aio-pika": rates["bare"]},
                xlabel="slice",
                ylabel="per second",
            )
        ],
        details={"per_second": rates},
    )


def _status(client: Http, sessions: list[str]) -> Call:
    turn = itertools.cycle(sessions)

    async def call(_: int) -> int:
        return (await client.status(next(turn))).status

    return call


@asynccontextmanager
async def _node(bench: Bench) -> AsyncIterator[str]:
    folder = bench.folder / "echo"
    node = await rabbitmq.start(folder, dies_with_us=True)
    try:
        yield node.url()
    finally:
        await rabbitmq.stop(folder)
