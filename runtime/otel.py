"""Spans by OpenTelemetry, exported over OTLP/HTTP by a thread of its own. Only `runtime.tracing` imports this.

Spans wait in a queue with a bound (`OTEL_BSP_MAX_QUEUE_SIZE`, 2048 spans), and are dropped when it is full: a collector
that is slow or away costs a known amount of memory, and delays no payment.
"""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags

from runtime.aio import LogOnChange
from runtime.health import Build
from runtime.tracing import NOTHING, Kind, Span

_log = logging.getLogger("runtime.tracing")

STOP_SECONDS: Final = 2.0
"""How long the last spans may take at the end of the process."""


class OpenTelemetry:
    """See `runtime.tracing.Tracer`."""

    def __init__(self, build: Build) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME", build.name)
        resource = Resource.create({"service.name": name, "service.version": build.version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # or the end waits for a dead one
        self._provider.add_span_processor(BatchSpanProcessor(_Exporter()))
        self._tracer = self._provider.get_tracer("bookticket-payment-service", build.version)

    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Any], *, parent: str | None, links: Sequence[str]
    ) -> Span:
        """A recorded span, unless the sampler leaves it out; then it still says so to those that come after it."""
        above = None if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(_context_of(parent)))
        began = self._tracer.start_span(
            name,
            context=above,
            kind=SpanKind[kind.upper()],
            attributes=_known(attributes),
            links=[trace.Link(_context_of(link)) for link in links],
        )
        return _Recorded(began)

    def current(self) -> Span:
        """The span that this runs in."""
        found = trace.get_current_span()
        return _Recorded(found) if found.get_span_context().is_valid else NOTHING

    def stop(self) -> None:
        """Tell what is left; who does not take it in time does not keep the process."""
        last = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(STOP_SECONDS)


class _Recorded(Span):
    """A span, which is the current one inside the block."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def trace_parent(self) -> str:  # type: ignore[override]
        found = self._span.get_span_context()
        return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"

    def __enter__(self) -> Self:
        self._token = contexts.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        contexts.detach(self._token)
        if kind is not None:
            self.fail(kind.__name__)  # never its text, which may say what was sent
        self._span.end()

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, attributes: Mapping[str, Any]) -> None:
        self._span.set_attributes(_known(attributes))

    def fail(self, why: str) -> None:
        self._span.set_attribute("error.type", why)
        self._span.set_status(StatusCode.ERROR)


class _Exporter(SpanExporter):
    """Tells spans to the collector, and once that they cannot be told."""

    def __init__(self) -> None:
        self._exporter = OTLPSpanExporter()
        self._change = LogOnChange(_log)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._change.works("the collector takes spans again")
        else:
            self._change.failed("the collector (OTEL_EXPORTER_OTLP_ENDPOINT) takes no spans: they are dropped")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


def _context_of(trace_parent: str) -> SpanContext:
    """Of a valid trace parent."""
    _, trace_id, span_id, flags = trace_parent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
