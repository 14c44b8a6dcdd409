"""The bridge's metrics. What is counted elsewhere anyway is read when Prometheus asks; see docs/operating.md."""

import functools
from collections.abc import Iterator
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

from bridge.requester import Requester
from contracts.actuator import Build

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""A caller may send any word as a method, and a label's values must be few."""


class Metrics:
    """One per application, with a registry of its own, so that two applications in one process do not collide."""

    def __init__(self, requester: Requester, build: Build) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, of no use to anybody here
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        info = Gauge(
            "payment_bridge_build_info",
            "Always 1; the labels say which build runs.",
            ("version", "commit"),
            registry=self._registry,
        )
        info.labels(build.version, build.commit).set(1)
        requests = Counter(
            "payment_bridge_http_requests_total",
            "Requests answered, by route, method, HTTP status and error code (empty if there was none).",
            ("route", "method", "status", "code"),
            registry=self._registry,
        )
        seconds = Histogram(
            "payment_bridge_http_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ("route", "method"),
            registry=self._registry,
        )
        # To find a series costs more than to count in it.
        self._requests: Final = functools.cache(requests.labels)
        self._seconds: Final = functools.cache(seconds.labels)
        self.in_flight = 0
        self._registry.register(_Readings(self, requester))

    def began(self) -> None:
        """A request has come."""
        self.in_flight += 1

    def ended(self, *, route: str, method: str, status: int, code: str, seconds: float | None) -> None:
        """A request was answered; `status` is 0 if its caller had gone, `seconds` None if it wanted to wait."""
        self.in_flight -= 1
        known = method if method in _METHODS else "other"
        self._requests(route, known, status, code).inc()
        if seconds is not None:
            self._seconds(route, known).observe(seconds)

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Readings(Collector):
    """What others count, read when it is asked for."""

    def __init__(self, metrics: Metrics, requester: Requester) -> None:
        self._metrics = metrics
        self._requester = requester

    def collect(self) -> Iterator[Metric]:
        """One family after the other."""
        requester, counters = self._requester, self._requester.counters
        calls = CounterMetricFamily(
            "payment_bridge_calls", "Calls to the service over RabbitMQ, by how they ended.", labels=("result",)
        )
        for result in ("answered", "busy", "unavailable", "unroutable", "expired", "gone"):
            calls.add_metric((result,), getattr(counters, result))
        yield calls
        yield CounterMetricFamily(
            "payment_bridge_stray_replies", "Replies that nobody waited for any more.", value=counters.stray
        )
        yield GaugeMetricFamily(
            "payment_bridge_http_requests_in_flight", "Requests being served.", value=self._metrics.in_flight
        )
        yield GaugeMetricFamily(
            "payment_bridge_calls_in_flight", "Calls waiting for a reply.", value=requester.in_flight
        )
        yield GaugeMetricFamily(
            "payment_bridge_calls_in_flight_limit", "BRIDGE_MAX_IN_FLIGHT.", value=requester.max_in_flight
        )
        yield GaugeMetricFamily(
            "payment_bridge_held_calls", "Calls whose answer the service may hold.", value=requester.held
        )
        yield GaugeMetricFamily("payment_bridge_held_calls_limit", "BRIDGE_MAX_HELD.", value=requester.max_held)
        yield GaugeMetricFamily(
            "payment_bridge_broker_connected", "1 while RabbitMQ takes messages from here.", value=requester.ready
        )
