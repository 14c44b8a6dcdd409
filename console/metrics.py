"""The console's metrics: what its pages cost, and the process."""

from typing import Final

from runtime.health import Build
from runtime.metrics_registry import MetricsRegistry


class Metrics:
    """One per application."""

    def __init__(self, build: Build) -> None:
        self._registry: Final = MetricsRegistry("payment_console", build)
        self._acts = self._registry.counter("acts", "Acts of operators, by kind and result.", "kind", "result")
        self._logins = self._registry.counter("logins", "Attempts to log in, by result.", "result")

    def on_act(self, kind: str, result: str) -> None:
        """An operator has acted."""
        self._acts(kind, result).inc()

    def on_login(self, result: str) -> None:
        """Somebody tried to log in."""
        self._logins(result).inc()

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        return self._registry.page()
