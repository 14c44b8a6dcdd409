"""Spans of what a purchase passes through, told to an OpenTelemetry collector. Until `start` each is nothing.

It is on where `OTEL_EXPORTER_OTLP_ENDPOINT` is set; only then OpenTelemetry is imported (the extra `otel`). Its own
variables choose the rest, such as `OTEL_TRACES_SAMPLER`.
"""

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

from contracts import envelope
from runtime.command_start import CannotStartError
from runtime.health import Build

Kind = Literal["internal", "server", "client", "producer", "consumer"]
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NO_ATTRIBUTES: Final[Mapping[str, Any]] = {}


class Span:
    """A span that nobody records. `trace_parent` of one that is: what is sent on, so that others come below it."""

    __slots__ = ()
    trace_parent: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """End it."""

    def name(self, name: str) -> None:
        """Rename it, when more is known."""

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes; those that are None are left out."""

    def fail(self, why: str) -> None:
        """It failed; `why` is one of a few words."""

    def carried(self, headers: Mapping[str, Any]) -> Mapping[str, Any]:
        """The headers of a message that is sent within it."""
        return headers if self.trace_parent is None else {**headers, envelope.TRACE_PARENT: self.trace_parent}


class Tracer(Protocol):
    """Makes spans that are recorded."""

    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Any], *, parent: str | None, links: Sequence[str]
    ) -> Span:
        """See `span`."""

    def current(self) -> Span:
        """The span that this runs in."""

    def stop(self) -> None:
        """Tell what is left, if that is quick."""


NOTHING: Final = Span()
_tracer: Tracer | None = None


def start(process: str) -> None:
    """Record spans from now on, if a collector is named. CannotStartError: the extra is missing."""
    global _tracer  # noqa: PLW0603 - as with logs, there is one for the process
    if not any(map(os.environ.get, _ENDPOINTS)):
        return
    try:
        from runtime.otel import OpenTelemetry  # noqa: PLC0415 - it is not installed, nor paid for, where it is off
    except ModuleNotFoundError as error:
        raise CannotStartError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT needs the extra 'otel', which is not installed here ({error.name}):"
            " pip install 'bookticket-payment-service[otel]'."
        ) from None
    _tracer = OpenTelemetry(Build.installed(process, commit=None))


def stop() -> None:
    """Record no more, and tell what is left, if that is quick."""
    global _tracer
    tracer, _tracer = _tracer, None
    if tracer is not None:
        tracer.stop()


def is_on() -> bool:
    """Whether spans are recorded."""
    return _tracer is not None


def span(
    name: str,
    kind: Kind,
    attributes: Mapping[str, Any] = _NO_ATTRIBUTES,
    *,
    parent: str | None = None,
    links: Sequence[str] = (),
) -> Span:
    """A context: below `parent`, which came with a message, else below the span that this runs in, else a new trace.

    `links`: trace parents of others that have to do with it.
    """
    return NOTHING if _tracer is None else _tracer.span(name, kind, attributes, parent=parent, links=links)


def child(name: str, kind: Kind, attributes: Mapping[str, Any] = _NO_ATTRIBUTES) -> Span:
    """The same for what is of interest only within another span: it begins no trace."""
    if _tracer is None or _tracer.current() is NOTHING:
        return NOTHING
    return _tracer.span(name, kind, attributes, parent=None, links=())


def current() -> Span:
    """The span that this runs in."""
    return NOTHING if _tracer is None else _tracer.current()
