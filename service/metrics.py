"""The service's metrics: counted by observers, or read when Prometheus asks. See docs/operating.md."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Final

from contracts.commands import CommandType
from contracts.faults import DeadLetterReason
from runtime.health import Build
from runtime.metrics_registry import MetricsRegistry, Values
from service.adapters.postgres import POOL_SIZE, Database, DatabaseClock
from service.adapters.stripe.calls import Calls
from service.application.admission import Outstanding
from service.application.differences import DifferenceKind
from service.application.ports import Backlog, Outbox
from service.application.told_session import ToldResult
from service.application.waiters import WaiterRegistry
from service.domain.errors import StoreUnavailableError
from service.domain.payment import AttentionReason, FailureReason
from service.domain.status import Change, ChangeKind
from service.entrypoints.long_poll import LongPoll
from service.entrypoints.middleware import CommandResult
from service.ratelimit.limiter import RateLimiter
from service.ratelimit.permit import Endpoint
from service.workers.event_feed import EventFeed

OUTBOX_SECONDS: Final = 2.0
"""How long a page waits for the outbox; without an answer the two figures of it are left out."""


class Metrics:
    """One per process, and every part's observer. Series that alerts depend on exist from the start, at 0."""

    def __init__(self, build: Build) -> None:
        self._registry = registry = MetricsRegistry("payment_service", build)
        self._outbox: Outbox | None = None
        self._backlog: Backlog | None = None
        self._clock: DatabaseClock | None = None
        counter, histogram = registry.counter, registry.histogram
        self._commands = counter(
            "commands", "Commands handled, by type, disposition and fault code.", "type", "disposition", "code"
        )
        self._command_seconds = histogram("command_duration_seconds", "From delivery to acknowledgement.", "type")
        self._dead_letters = counter("dead_letters", "Commands dead-lettered, by type and reason.", "type", "reason")
        self._long_polls = counter("long_polls", "Senders who wanted to wait, by how that ended.", "result")
        self._gateway_calls = counter("gateway_calls", "Calls to Stripe, by result.", "endpoint", "result")
        self._gateway_seconds = histogram(
            "gateway_call_duration_seconds", "Of a call to Stripe, with its permits and repeats.", "endpoint"
        )
        self._permits = counter("permits", "Permits to call Stripe, by result.", "endpoint", "result")
        self._permit_seconds = histogram("permit_wait_seconds", "How long a permit was waited for.", "endpoint")
        self._gateway_attempts = counter("gateway_attempts", "Sent to Stripe.", "endpoint")
        self._gateway_openings = counter("gateway_circuit_openings", "Times the circuit breaker opened.", "endpoint")
        # Where an observer only counts, the counter's own `inc` is its method.
        self.on_create_refused = counter("creates_refused", "Creates told to come back.")().inc
        self._changes = counter(
            "payment_changes", "Changes of payments written here, by kind, and why they failed.", "change", "reason"
        )
        self._attention = counter("attention", "Payments that a person must look at, by reason.", "reason")
        self._events = counter("events", "Attempts to publish an event, by result.", "result")
        # Seconds that are negative come from two clocks, and count as none.
        self._event_seconds = histogram("event_publish_seconds", "From an event's writing to RabbitMQ's confirm.")()
        self._known_seconds = histogram("paid_known_seconds", "From Stripe's event to the payment's completion here.")()
        self._sweeper_passes = counter("sweeper_passes", "Searches for stuck payments.")()
        self._sweeper_claimed = counter("sweeper_claimed", "Stuck payments found.")()
        self.on_sweep_failure = counter("sweeper_failures", "Stuck payments that could not be finished yet.")().inc
        self._feed_reads = counter("feed_reads", "Reads of Stripe's events, by result.", "result")
        self.on_feed_page = counter("feed_pages", "Pages fetched for them.")().inc
        self.on_feed_events = counter("feed_events", "Events ingested, each once.")().inc
        self.on_feed_finished = counter("feed_finished", "Payments finished by them.")().inc
        self.on_feed_failure = counter("feed_failures", "Payments that could not be finished by them yet.")().inc
        self._told_sessions = counter(
            "told_sessions", "Sessions that Stripe told of, looked at one by one, by what became of them.", "result"
        )
        self._differences = counter(
            "reconcile_differences", "Differences between Stripe and the payments here, by kind.", "kind"
        )
        for difference in DifferenceKind:
            self._differences(difference.value)
        self._begin()

    def _begin(self) -> None:
        for command, why in itertools.product(CommandType, DeadLetterReason):
            self._dead_letters(command.value, why.value)
        for reason in AttentionReason:
            self._attention(reason.value)
        for told in ToldResult:
            self._told_sessions(told.value)
        for kind in (
            ChangeKind.CREATED,
            ChangeKind.ADOPTED,
            ChangeKind.REFUNDED,
            ChangeKind.DISPUTED,
            ChangeKind.OPENED,
            ChangeKind.COMPLETED,
        ):
            self._changes(kind.value, "")
        for failure in FailureReason:
            self._changes(ChangeKind.FAILED.value, failure.value)
        for endpoint in Endpoint:
            self._gateway_attempts(endpoint.value)
            self._gateway_openings(endpoint.value)
        for result in ("final", "timeout", "stopping", "refused", "lost"):
            self._long_polls(result)
        for result in ("published", "refused", "unreachable"):
            self._events(result)
        for result in ("complete", "failed", "busy"):
            self._feed_reads(result)

    def on_command(self, command: CommandType, result: CommandResult, seconds: float) -> None:
        self._commands(command.value, result.disposition.value, result.code).inc()
        self._command_seconds(command.value).observe(seconds)
        if result.reason is not None:
            self._dead_letters(command.value, result.reason.value).inc()

    def on_long_poll(self, result: str) -> None:
        self._long_polls(result).inc()

    def on_gateway_call(self, endpoint: str, result: str, seconds: float) -> None:
        self._gateway_calls(endpoint, result).inc()
        self._gateway_seconds(endpoint).observe(seconds)

    def on_gateway_attempt(self, endpoint: str) -> None:
        self._gateway_attempts(endpoint).inc()

    def on_circuit_opened(self, endpoint: str) -> None:
        self._gateway_openings(endpoint).inc()

    def on_permit(self, endpoint: str, result: str, waited_seconds: float) -> None:
        self._permits(endpoint, result).inc()
        if result != "denied":
            self._permit_seconds(endpoint).observe(waited_seconds)

    def on_change(self, change: Change) -> None:
        """A change of a payment is committed."""
        if change.kind is ChangeKind.ATTENTION:
            self._attention(change.payment.attention or "").inc()
        else:
            self._changes(change.kind.value, change.payment.reason or "").inc()

    def on_event(self, result: str) -> None:
        self._events(result).inc()

    def on_event_published(self, seconds: float) -> None:
        self._event_seconds.observe(max(0.0, seconds))

    def on_payment_known(self, seconds: float, /) -> None:
        self._known_seconds.observe(max(0.0, seconds))

    def on_sweep(self, claimed: int) -> None:
        self._sweeper_passes.inc()
        self._sweeper_claimed.inc(claimed)

    def on_told_session(self, result: str) -> None:
        self._told_sessions(result).inc()

    def on_difference(self, kind: str) -> None:
        self._differences(kind).inc()

    def on_feed_read(self, result: str) -> None:
        self._feed_reads(result).inc()

    def read_from(
        self,
        *,
        database: Database,
        outbox: Outbox,
        feed: EventFeed,
        waiters: WaiterRegistry,
        long_poll: LongPoll,
        calls: Calls,
        clock: DatabaseClock,
        limiter: RateLimiter,
        outstanding: Outstanding,
    ) -> None:
        """Register the figures that these know."""
        self._outbox, self._clock = outbox, clock
        gauge = self._registry.read_gauge
        gauge("pending_replies", "Senders who wait for a final status.", read=lambda: len(long_poll))
        gauge("pending_replies_limit", "Above it, replies are sent at once.", read=lambda: long_poll.limit)
        gauge("feed_is_leader", "1 while this replica reads.", read=lambda: feed.leading)
        gauge(
            "feed_read_age_seconds",
            "Since the last complete read, here or elsewhere.",
            read=waiters.last_read_seconds_ago,
        )
        gauge("database_connections_in_use", "Of the pool.", read=lambda: database.in_use)
        gauge("database_connections_limit", "The pool's size.", read=lambda: POOL_SIZE)
        gauge(
            "database_clock_skew_seconds",
            "This machine's clock minus the database's.",
            read=lambda: None if clock.skew is None else clock.skew.total_seconds(),
        )
        gauge("outbox_unsent", "Events in the outbox, of all replicas.", read=self._unsent)
        gauge("outbox_oldest_unsent_age_seconds", "Of the oldest of them; 0 if there is none.", read=self._oldest_age)
        self._read_from_gateway(calls)
        self._read_from_limiter(limiter, outstanding)

    def _read_from_gateway(self, calls: Calls) -> None:
        gauge, breakers = self._registry.read_gauge, calls.circuit_breakers
        gauge("gateway_calls_in_flight", "Calls to Stripe in progress or waiting.", read=lambda: calls.in_flight)
        gauge("gateway_clock_skew_seconds", "Stripe's clock minus the database's.", read=lambda: _skew(calls))
        gauge(
            "gateway_misconfigured",
            "1 while Stripe refuses what is sent there for a reason of ours.",
            "endpoint",
            read=lambda: _by_endpoint(lambda endpoint: endpoint in calls.misconfigured),
        )
        gauge(
            "gateway_circuit_state",
            "0 closed, 1 half open, 2 open.",
            "endpoint",
            read=lambda: _by_endpoint(breakers.state),
        )

    def _read_from_limiter(self, limiter: RateLimiter, outstanding: Outstanding) -> None:
        gauge = self._registry.read_gauge
        gauge(
            "permits_waiting",
            "Callers who wait for a permit.",
            "endpoint",
            "priority",
            read=lambda: [
                ((endpoint.value, priority.name.lower()), number) for endpoint, priority, number in limiter.waiting()
            ],
        )
        gauge(
            "rate_factor",
            "The part of the allowed rate of calls that is used.",
            "endpoint",
            read=lambda: _by_endpoint(limiter.rate_factor),
        )
        gauge("quota_local", "1 while permits cannot be shared between replicas.", read=lambda: limiter.is_local)
        gauge("creates_outstanding", "Creates of all replicas that are to come back.", read=lambda: outstanding.number)

    def _unsent(self) -> float | None:
        return None if self._backlog is None else self._backlog.unsent

    def _oldest_age(self) -> float | None:
        if self._backlog is None:
            return None
        oldest = self._backlog.oldest_at
        if oldest is None or self._clock is None:
            return 0.0
        return max(0.0, (self._clock.now() - oldest).total_seconds())

    async def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        self._backlog = None
        if self._outbox is not None:
            with contextlib.suppress(StoreUnavailableError, TimeoutError):
                async with asyncio.timeout(OUTBOX_SECONDS):
                    self._backlog = await self._outbox.backlog()
        return self._registry.page()


def _skew(calls: Calls) -> float | None:
    measured = calls.skew.measured
    return None if measured is None else measured.total_seconds()


def _by_endpoint(read: Callable[[Endpoint], float]) -> Values:
    return [((endpoint.value,), read(endpoint)) for endpoint in Endpoint]
