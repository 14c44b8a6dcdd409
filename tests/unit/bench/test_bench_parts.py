"""The benchmarks' own parts: that they count from when a request was due, and say what was measured."""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench import page
from tests.bench.buyers import Crowd
from tests.bench.figures import Figure, Part, Plot, as_json, from_json, markdown, text, verdict
from tests.bench.load import LOST, OK, Latencies, closed_loop, http, open_loop


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


async def test_what_is_due_while_everybody_is_busy_is_missed_and_not_forgotten() -> None:
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


def test_merged_latencies_are_those_of_one_histogram() -> None:
    parts, whole = (Latencies(), Latencies()), Latencies()
    for number in range(1, 1001):
        seconds = number / 1000
        parts[number % 2].record(seconds)
        whole.record(seconds)
    parts[0].merge(parts[1])

    assert len(parts[0]) == 1000
    assert parts[0].curve() == whole.curve()
    for percentile in (50, 99, 100):
        found = whole.at(percentile)
        assert found is not None
        assert abs(found - percentile / 100) <= 0.001 * found + 1e-6
    assert Latencies().at(50) is None


def test_a_goal_is_met_by_what_was_measured_and_lies_within_its_bounds() -> None:
    met = {
        figure.name: figure.met
        for figure in (
            Figure(name="at the bound", value=0.4, at_most=0.4),
            Figure(name="above it", value=0.41, at_most=0.4),
            Figure(name="below the other", value=319, at_least=320),
            Figure(name="between", value=5, at_least=1, at_most=9),
            Figure(name="nothing where nothing is wanted", value=0, at_most=0),
            Figure(name="not measured", value=None, at_most=1),
            Figure(name="no goal", value=7),
        )
    }
    assert met == {
        "at the bound": True,
        "above it": False,
        "below the other": False,
        "between": True,
        "nothing where nothing is wanted": True,
        "not measured": False,
        "no goal": None,
    }
    assert Figure(name="half", value=5, baseline=10, against="bare").ratio == 0.5
    assert Figure(name="of nothing", value=5, baseline=0, against="bare").ratio is None


def test_the_figures_are_said_in_json_in_a_table_in_text_and_on_a_page_that_loads_nothing() -> None:
    part = Part(
        name="p1",
        title="Rush <now>",
        how="Many at once.",
        figures=[
            Figure(name="paid → COMPLETED, p50", value=0.25, unit="s", at_most=0.4, baseline=12.5, against="naive"),
            Figure(name="429s at Stripe", value=3, at_most=0),
        ],
        plots=[Plot(title="Waiting", x=["a", "b"], series={"ours": [1, None]}, xlabel="", ylabel="ms")],
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
    assert "not met" in text(run)
    shown = page.render(run)
    assert "1 of 2 goals met" in shown
    assert "Rush &lt;now&gt;" in shown
    assert "nobody answered" in shown
    assert "<svg" in shown
    assert "Others used this machine" in shown
    assert not any(loads in shown for loads in ("src=", "<script", "@import", "url(http", '<link rel="stylesheet'))


class _Shop:
    """Refuses a booking as often as it is told to, and knows of a payment at the second look."""

    def __init__(self, refusals: dict[int, int]) -> None:
        self._refusals = refusals
        self._looks: dict[str, int] = {}
        self.bookings: list[int] = []

    async def create(self, booking: int) -> tuple[int, str, float | None]:
        place = len(self.bookings)
        self.bookings.append(booking)
        return (503, "", 0.0) if self._refusals.get(place) else (OK, f"cs_{place}", None)

    async def verify(self, session: str) -> tuple[int, bool]:
        self._looks[session] = self._looks.get(session, 0) + 1
        return OK, True


async def _bought(shop: _Shop, *, early: int = 0) -> Crowd:
    async def pay(_: str) -> bool:
        return True

    crowd = Crowd(
        shop=shop, pay=pay, count=1, seconds=0.01, early=early, pay_after_seconds=(0, 0.01), begin_anew_seconds=0
    )
    await crowd.run()
    return crowd


async def test_a_buyer_refused_once_comes_back_with_the_same_booking() -> None:
    shop = _Shop({0: True})
    (buyer,) = (await _bought(shop)).buyers
    assert (buyer.refusals, buyer.errors) == (1, 0)
    assert len(shop.bookings) == 2
    assert len(set(shop.bookings)) == 1
    assert buyer.completed_at is not None


async def test_a_buyer_refused_twice_is_an_error_and_begins_anew_with_another_booking() -> None:
    shop = _Shop({0: True, 1: True})
    (buyer,) = (await _bought(shop)).buyers
    assert (buyer.refusals, buyer.errors) == (2, 1)
    assert shop.bookings[0] == shop.bookings[1] != shop.bookings[2]
    assert buyer.checkout_at is not None


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
