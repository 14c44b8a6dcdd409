"""What the metrics of all processes share: a registry with the process's own figures, and its page for Prometheus.

A part counts through an observer that its process's `metrics` implements with `counter` and `histogram`. What a part
knows anyway is registered with `read_gauge`, and is read when Prometheus asks.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from runtime.health import Build

Values = float | Iterable[tuple[tuple[str, ...], float]]
"""The value of a metric, or with labels that of each series: the labels' values in their order, and the number."""
Read = Callable[[], Values | None]
"""Reads a metric when Prometheus asks; None leaves it out of the page."""


class MetricsRegistry:
    """The metrics of one application, so that two applications in one process do not collide.

    Names are given without the `prefix` and without `_total`, which are added.
    """

    def __init__(self, prefix: str, build: Build) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody uses
        self._prefix: Final = prefix
        self._registry: Final = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        labels = "version", "commit"
        info = [((build.version, build.commit), 1)]
        self.read_gauge("build_info", "Always 1; the labels say which build runs.", *labels, read=lambda: info)

    def counter(self, name: str, text: str, *labels: str) -> Callable[..., Counter]:
        """What finds a series by the values of its labels; a series is on the page from its first look-up on."""
        counter = Counter(f"{self._prefix}_{name}", text, labels, registry=self._registry)
        # To find a series costs more than to count in it.
        return functools.cache(counter.labels) if labels else lambda: counter

    def histogram(self, name: str, text: str, *labels: str) -> Callable[..., Histogram]:
        """The same for a histogram with the usual buckets."""
        histogram = Histogram(f"{self._prefix}_{name}", text, labels, registry=self._registry)
        return functools.cache(histogram.labels) if labels else lambda: histogram

    def read_gauge(self, name: str, text: str, *labels: str, read: Read) -> None:
        """Register a gauge that another part keeps."""
        family = functools.partial(GaugeMetricFamily, f"{self._prefix}_{name}", text, labels=labels)
        self._registry.register(_ReadGauge(family=family, read=read))

    def value(self, name: str, **labels: str) -> float:
        """The present value of a series, by its full name without the prefix; 0 if it does not exist."""
        return self._registry.get_sample_value(f"{self._prefix}_{name}", labels) or 0.0

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)


@dataclass(frozen=True, kw_only=True, eq=False)
class _ReadGauge(Collector):
    family: Callable[[], GaugeMetricFamily]
    read: Read

    def describe(self) -> Iterator[Metric]:
        """Its name, with which a second metric of the same name is refused; nothing is read yet."""
        yield self.family()

    def collect(self) -> Iterator[Metric]:
        """Its value or its series."""
        values = self.read()
        if values is None:
            return
        family = self.family()
        for labels, value in [((), values)] if isinstance(values, int | float) else values:
            family.add_metric(labels, value)
        yield family
