"""The bridge's metrics; docs/operating.md explains each. No other module of the bridge counts."""

from typing import Final

from bridge.pending_calls import CallResult
from bridge.rpc_client import RpcClient
from runtime.health import Build
from runtime.metrics_registry import MetricsRegistry

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""A caller may send any word as a method, and a label's values must be few."""


class Metrics:
    """One per application. It is the `RequestObserver` of the middleware and the `RpcObserver` of the RPC client."""

    def __init__(self, build: Build) -> None:
        self._registry: Final = MetricsRegistry("payment_bridge", build)
        self._requests = self._registry.counter(
            "http_requests",
            "Requests answered, by route, method, HTTP status and error code (empty if there was none).",
            *("route", "method", "status", "code"),
        )
        self._seconds = self._registry.histogram(
            "http_request_duration_seconds", "From the request's head to the end of its answer.", "route", "method"
        )
        self._calls = self._registry.counter("calls", "Calls to the service over RabbitMQ, by result.", "result")
        self._stray_replies = self._registry.counter("stray_replies", "Replies that no call waited for any more.")
        self._in_flight = 0
        self._registry.read_gauge("http_requests_in_flight", "Requests being served.", read=lambda: self._in_flight)
        for result in CallResult:
            self._calls(result.value)

    def watch(self, rpc_client: RpcClient) -> None:
        """Add what the RPC client knows about itself."""
        gauge = self._registry.read_gauge
        gauge("calls_in_flight", "Calls waiting for a reply.", read=lambda: rpc_client.in_flight)
        gauge("calls_in_flight_limit", "BRIDGE_MAX_IN_FLIGHT.", read=lambda: rpc_client.max_in_flight)
        gauge("long_polls", "Calls whose reply the service may defer.", read=lambda: rpc_client.long_polls)
        gauge("long_polls_limit", "BRIDGE_MAX_HELD.", read=lambda: rpc_client.max_long_polls)
        gauge(
            "service_clock_skew_seconds",
            "The service's clock minus ours, by its last replies.",
            read=lambda: rpc_client.clock.skew_seconds,
        )
        gauge("broker_connected", "1 while RabbitMQ takes messages from here.", read=lambda: rpc_client.ready)

    def on_request(self) -> None:
        self._in_flight += 1

    def on_response(self, *, route: str, method: str, status: int, code: str, seconds: float | None) -> None:
        self._in_flight -= 1
        known = method if method in _METHODS else "other"
        self._requests(route, known, status, code).inc()
        if seconds is not None:
            self._seconds(route, known).observe(seconds)

    def on_call(self, result: CallResult) -> None:
        self._calls(result.value).inc()

    def on_stray_reply(self) -> None:
        self._stray_replies().inc()

    def calls(self) -> dict[str, int]:
        """How many calls ended with each result so far, and how many replies were stray."""
        totals = {result.value: self._registry.value("calls_total", result=result.value) for result in CallResult}
        totals["stray"] = self._registry.value("stray_replies_total")
        return {name: int(value) for name, value in totals.items()}

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        return self._registry.page()
