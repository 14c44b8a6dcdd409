"""The service's metrics. What is counted elsewhere anyway is read when Prometheus asks; see docs/operating.md."""

import asyncio
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from contracts.actuator import Build
from contracts.commands import CommandType
from contracts.faults import DeadLetterReason
from service.adapters.stripe.calls import Calls
from service.application.admission import Admission
from service.application.budget import Budget, Endpoint
from service.application.news import News
from service.application.ports import Backlog, Outbox
from service.domain.errors import StoreUnavailableError
from service.domain.payment import AttentionReason, FailureReason
from service.domain.status import Change, ChangeKind
from service.entrypoints.delivery import Ending
from service.entrypoints.feed import Feed
from service.entrypoints.relay import Relay
from service.entrypoints.settler import Settler

OUTBOX_SECONDS: Final = 2.0
"""How long the outbox may be asked; without an answer its two figures are missing from the page."""


class Metrics:
    """One per process, with a registry of its own. Series that alarms look at are there from the start, at 0."""

    def __init__(self, build: Build) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, of no use to anybody here
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        info = Gauge(
            "payment_service_build_info",
            "Always 1; the labels say which build runs.",
            ("version", "commit"),
            registry=self._registry,
        )
        info.labels(build.version, build.commit).set(1)
        self._commands = self._counter(
            "commands", "Commands handled, by type, how they ended, and fault code.", "type", "ended", "code"
        )
        self._command_seconds = self._histogram("command_duration_seconds", "From delivery to acknowledgement.", "type")
        self._dead_letters = self._counter("dead_letters", "Commands parked, by type and reason.", "type", "reason")
        self._gateway_calls = self._counter(
            "gateway_calls", "Calls to Stripe, by what came back.", "endpoint", "result"
        )
        self._gateway_seconds = self._histogram(
            "gateway_call_duration_seconds", "Of a call to Stripe, with its turns and repeats.", "endpoint"
        )
        self._turns = self._counter("turns", "Turns to call Stripe, by what became of them.", "endpoint", "result")
        self._turn_seconds = self._histogram("turn_wait_seconds", "How long a turn was waited for.", "endpoint")
        self._changes = self._counter(
            "payment_changes", "Changes of payments written here, by kind, and why they failed.", "change", "reason"
        )
        self._attention = self._counter("attention", "Payments that a person must look at, by reason.", "reason")
        self._readings: _Readings | None = None
        for command, why in itertools.product(CommandType, DeadLetterReason):
            self._dead_letters(command.value, why.value)
        for reason in AttentionReason:
            self._attention(reason.value)
        for kind in (ChangeKind.CREATED, ChangeKind.OPENED, ChangeKind.COMPLETED):
            self._changes(kind.value, "")
        for failure in FailureReason:
            self._changes(ChangeKind.FAILED.value, failure.value)

    def command(self, command: CommandType, ending: Ending, seconds: float) -> None:
        """A delivery was dealt with."""
        self._commands(command.value, ending.how.value, ending.code).inc()
        self._command_seconds(command.value).observe(seconds)
        if ending.parked is not None:
            self._dead_letters(command.value, ending.parked.value).inc()

    def gateway_call(self, endpoint: str, result: str, seconds: float) -> None:
        """A call to Stripe is over."""
        self._gateway_calls(endpoint, result).inc()
        self._gateway_seconds(endpoint).observe(seconds)

    def turn(self, endpoint: str, result: str, seconds: float) -> None:
        """A turn is over, or there was none."""
        self._turns(endpoint, result).inc()
        if result != "refused":
            self._turn_seconds(endpoint).observe(seconds)

    def change(self, change: Change) -> None:
        """A change of a payment is in the database."""
        if change.kind is ChangeKind.ATTENTION:
            self._attention(change.payment.attention or "").inc()
        else:
            self._changes(change.kind.value, change.payment.reason or "").inc()

    def read(
        self,
        *,
        relay: Relay,
        settler: Settler,
        feed: Feed,
        news: News,
        outbox: Outbox,
        calls: Calls,
        budget: Budget,
        admission: Admission,
        connections_in_use: Callable[[], int],
        connections_limit: int,
    ) -> None:
        """From now on the page also says what these have counted."""
        self._readings = _Readings(
            relay=relay,
            settler=settler,
            feed=feed,
            news=news,
            outbox=outbox,
            calls=calls,
            budget=budget,
            admission=admission,
            connections_in_use=connections_in_use,
            connections_limit=connections_limit,
        )
        self._registry.register(self._readings)

    async def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        if self._readings is not None:
            await self._readings.look()
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Callable[..., Counter]:
        # To find a series costs more than to count in it.
        return functools.cache(Counter(f"payment_service_{name}_total", text, labels, registry=self._registry).labels)

    def _histogram(self, name: str, text: str, *labels: str) -> Callable[..., Histogram]:
        return functools.cache(Histogram(f"payment_service_{name}", text, labels, registry=self._registry).labels)


@dataclass(kw_only=True, eq=False)
class _Readings(Collector):
    """What others count, read when it is asked for."""

    relay: Relay
    settler: Settler
    feed: Feed
    news: News
    outbox: Outbox
    calls: Calls
    budget: Budget
    admission: Admission
    connections_in_use: Callable[[], int]
    connections_limit: int
    backlog: Backlog | None = None

    async def look(self) -> None:
        """Ask the outbox."""
        try:
            async with asyncio.timeout(OUTBOX_SECONDS):
                self.backlog = await self.outbox.backlog()
        except (StoreUnavailableError, TimeoutError):
            self.backlog = None

    def collect(self) -> Iterator[Metric]:
        """One family after the other."""
        events = CounterMetricFamily(
            "payment_service_events", "Attempts to publish an event, by what RabbitMQ made of it.", labels=("result",)
        )
        for result, count in vars(self.relay.counters).items():
            events.add_metric((result,), count)
        yield events
        settled = self.settler.counters
        yield CounterMetricFamily("payment_service_settler_rounds", "Looks for stuck payments.", value=settled.rounds)
        yield CounterMetricFamily("payment_service_settler_claimed", "Stuck payments found.", value=settled.claimed)
        yield CounterMetricFamily(
            "payment_service_settler_failures", "Stuck payments that could not be settled yet.", value=settled.failures
        )
        yield from self._of_feed()
        yield GaugeMetricFamily(
            "payment_service_gateway_calls_in_flight",
            "Calls to Stripe under way or waiting.",
            value=self.calls.in_flight,
        )
        attempts = CounterMetricFamily("payment_service_gateway_attempts", "Sent to Stripe.", labels=("endpoint",))
        openings = CounterMetricFamily(
            "payment_service_gateway_circuit_openings", "Times Stripe was left alone.", labels=("endpoint",)
        )
        state = GaugeMetricFamily(
            "payment_service_gateway_circuit_state", "0 closed, 1 half open, 2 open.", labels=("endpoint",)
        )
        for endpoint in Endpoint:
            attempts.add_metric((endpoint.value,), self.calls.attempts[endpoint])
            openings.add_metric((endpoint.value,), self.calls.circuits.openings[endpoint])
            state.add_metric((endpoint.value,), self.calls.circuits.state(endpoint))
        yield attempts
        yield openings
        yield state
        yield from self._budget()
        yield CounterMetricFamily(
            "payment_service_creates_refused", "Creates told to come back.", value=self.admission.refused
        )
        yield GaugeMetricFamily(
            "payment_service_creates_expected", "Of all replicas, to come back.", value=self.admission.expected
        )
        yield GaugeMetricFamily(
            "payment_service_database_connections_in_use", "Of the pool.", value=self.connections_in_use()
        )
        yield GaugeMetricFamily(
            "payment_service_database_connections_limit", "The pool's size.", value=self.connections_limit
        )
        if self.backlog is not None:
            yield GaugeMetricFamily(
                "payment_service_outbox_unsent", "Events in the outbox, of all replicas.", value=self.backlog.unsent
            )
            oldest = self.backlog.oldest_at
            age = 0.0 if oldest is None else max(0.0, (datetime.now(UTC) - oldest).total_seconds())
            yield GaugeMetricFamily(
                "payment_service_outbox_oldest_unsent_age_seconds",
                "Of the oldest of them; 0 if there is none.",
                value=age,
            )

    def _budget(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "payment_service_turns_waiting", "Who waits for a turn.", labels=("endpoint", "priority")
        )
        for endpoint, priority, number in self.budget.waiting():
            waiting.add_metric((endpoint.value, priority.name.lower()), number)
        yield waiting
        pace = GaugeMetricFamily(
            "payment_service_pace", "The share of the rate of calls that is used.", labels=("endpoint",)
        )
        for endpoint in Endpoint:
            pace.add_metric((endpoint.value,), self.budget.pace(endpoint))
        yield pace
        yield GaugeMetricFamily(
            "payment_service_turns_alone", "1 while turns cannot be shared.", value=float(self.budget.is_alone)
        )

    def _of_feed(self) -> Iterator[Metric]:
        readings = CounterMetricFamily(
            "payment_service_feed_readings", "Readings of Stripe's events, by what came of them.", labels=("result",)
        )
        for result, count in self.feed.readings.items():
            readings.add_metric((result,), count)
        yield readings
        reader, heard = self.feed.reader, self.feed.reader.listener.counters
        yield CounterMetricFamily("payment_service_feed_pages", "Pages read for them.", value=reader.pages)
        yield CounterMetricFamily("payment_service_feed_told", "Events told, each once.", value=heard.told)
        yield CounterMetricFamily("payment_service_feed_finished", "Payments finished by them.", value=heard.finished)
        yield CounterMetricFamily(
            "payment_service_feed_failures", "Payments that could not be finished by them yet.", value=heard.failures
        )
        yield GaugeMetricFamily("payment_service_feed_leading", "1 while this one reads.", value=self.feed.leading)
        yield GaugeMetricFamily(
            "payment_service_feed_read_age_seconds",
            "Since the last complete reading, here or elsewhere.",
            value=self.news.last_read_seconds_ago(),
        )
