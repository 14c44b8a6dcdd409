"""The parts of the benchmarks: latency counts from when a request was due, and results are reported as measured."""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tools.bench import bench_page
from tools.bench.buyers import Crowd
from tools.bench.figures import Figure, Part, Plot, as_json, from_json, markdown, verdict
from tools.bench.load_generator import LOST, OK, Latencies, closed_loop, http, open_loop


async def test_an_open_loop_counts_latency_from_when_a_request_was_due() -> None:
    stall = 0.3
    own: list[float] = []

    async def call(number: int) -> int:
        began = time.perf_counter()
        await asyncio.sleep(stall if number == 0 else 0)
        own.append(time.perf_counter() - began)
        return OK

    outcome = await open_loop(call, rate=100, seconds=0.5, at_most=1)

    # Thirty were due while the first one held the only connection; by their own watch they were quick.
    felt = outcome.latencies.at(75)
    assert felt is not None
    assert felt >= stall / 4
    assert statistics.median(own) < felt
    assert outcome.statuses.total() + outcome.missed == 50


async def test_what_is_due_while_all_slots_are_busy_is_missed_and_not_forgotten() -> None:
    async def call(_: int) -> int:
        await asyncio.sleep(0.2)
        return OK

    outcome = await open_loop(call, rate=40, seconds=0.15, at_most=2)

    assert outcome.missed >= 4
    assert outcome.served + outcome.missed == 6
    assert outcome.seconds >= 0.2, "the rate is of the time until the last answer"


async def test_only_answered_requests_have_a_latency() -> None:
    async def call(number: int) -> int:
        await asyncio.sleep(0)
        return OK if number % 2 else 503

    outcome = await open_loop(call, rate=200, seconds=0.1)
    assert outcome.served == len(outcome.latencies)
    assert outcome.served + outcome.errors + outcome.missed == 20
    assert outcome.errors > 0
    looped = await closed_loop(call, callers=2, seconds=0.01)
    assert looped.served == len(looped.latencies)
    assert looped.served + looped.errors == looped.statuses.total()


def test_latencies_can_be_merged_and_without_any_there_is_no_percentile() -> None:
    parts = (Latencies(), Latencies())
    for number in range(1, 1001):
        parts[number % 2].record(number / 1000)
    parts[0].merge(parts[1])
    assert len(parts[0]) == 1000
    assert [parts[0].at(percentile) for percentile in (50, 99, 100)] == pytest.approx([0.5, 0.99, 1.0], rel=0.001)
    assert Latencies().at(50) is None


@pytest.mark.parametrize(
    ("value", "goal", "met"),
    [
        (0.4, {"at_most": 0.4}, True),
        (0.41, {"at_most": 0.4}, False),
        (319, {"at_least": 320}, False),
        (5, {"at_least": 1, "at_most": 9}, True),
        (0, {"at_most": 0}, True),
        (None, {"at_most": 1}, False),
        (7, {}, None),
    ],
)
def test_a_goal_is_met_by_what_was_measured_and_lies_within_its_bounds(
    value: float | None, goal: dict[str, float], met: object
) -> None:
    assert Figure("it", value, **goal).met is met


def test_a_ratio_needs_a_baseline() -> None:
    assert Figure("half", 5, baseline=10, against="bare").ratio == 0.5
    assert Figure("of nothing", 5, baseline=0, against="bare").ratio is None


def test_the_figures_are_in_json_in_a_table_and_on_a_page_that_loads_nothing() -> None:
    part = Part(
        name="p1",
        title="Rush <now>",
        how="Many at once.",
        figures=[
            Figure("paid → COMPLETED, p50", 0.25, "s", at_most=0.4, baseline=12.5, against="naive"),
            Figure("429s at Stripe", 3, at_most=0),
        ],
        plots=[Plot("Waiting", ["a", "b"], {"ours": [1, None]}, "", "ms")],
        notes=["A note."],
        noise={"work_ms": 3.1, "slowest": 1.9, "load": 0.5, "steal": 0.0},
    )
    run = {
        "at": "2026-01-02T03:04:05+00:00",
        "commit": "abcdef0",
        "quick": False,
        "machine": {"text": "2 cores"},
        "parts": [json.loads(json.dumps(as_json(part)))],
        "failed": {"p7": "TimeoutError: nobody answered"},
    }

    assert from_json(run["parts"][0]) == part
    assert verdict(part.figures) == (2, 1)
    assert "| P1 | paid → COMPLETED, p50 | 0.25 s | ≤ 0.4 s | met | 12.5 (naive) | 0.02 |" in markdown(run)
    assert "|  | 429s at Stripe | 3 | 0 | not met |  |  |" in markdown(run)
    shown = bench_page.render(run)
    assert "1 of 2 goals met" in shown
    assert "Rush &lt;now&gt;" in shown
    assert "not met" in shown
    assert "nobody answered" in shown
    assert "<svg" in shown
    assert "Other programs used this machine" in shown
    assert not any(loads in shown for loads in ("src=", "<script", "@import", "url(http", '<link rel="stylesheet'))


class _Shop:
    """Refuses the first creates, and knows of a payment at the first look."""

    def __init__(self, refusals: int) -> None:
        self._refusals = refusals
        self.bookings: list[int] = []

    async def create(self, booking: int) -> tuple[int, str, float | None]:
        self.bookings.append(booking)
        place = len(self.bookings)
        return (503, "", 0.0) if place <= self._refusals else (OK, f"cs_{place}", None)

    async def verify(self, session: str) -> tuple[int, bool]:
        return OK, bool(session)


async def _bought(shop: _Shop) -> Crowd:
    async def pay(_: str) -> bool:
        return True

    crowd = Crowd(shop=shop, pay=pay, count=1, seconds=0.01, pay_after_seconds=(0, 0.01), begin_anew_seconds=0)
    await crowd.run()
    return crowd


@pytest.mark.parametrize(("refused", "errors"), [(1, 0), (2, 1)])
async def test_a_buyer_comes_back_once_and_then_begins_anew_with_another_booking(refused: int, errors: int) -> None:
    shop = _Shop(refused)
    (buyer,) = (await _bought(shop)).buyers
    assert (buyer.refusals, buyer.errors) == (refused, errors)
    assert (len(shop.bookings), len(set(shop.bookings))) == (refused + 1, errors + 1)
    assert shop.bookings[0] == shop.bookings[1]
    assert buyer.completed_at is not None


@asynccontextmanager
async def _server(*answers: list[bytes]) -> AsyncIterator[str]:
    """Sends each answer in the pieces that it has, and hangs up after the last one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for pieces in answers:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_the_raw_client_takes_answers_in_pieces_keeps_its_connection_and_notices_a_lost_one() -> None:
    refused = [b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\ncontent-", b"length: 2\r\n\r\n{", b"}"]
    async with (
        _server(refused, [b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", b'{"a":1}']) as base,
        http(base) as client,
    ):
        first = await client.get("/")
        assert (first.status, first.header("retry-after"), first.header("etag"), first.body) == (503, "3", None, {})
        second = await client.verify("cs_test_1", prefer="wait=1")
        assert (second.status, second.body) == (OK, {"a": 1})
        assert (await client.status("cs_test_1")).status == LOST
    assert (await client.status("cs_test_1")).status == LOST
