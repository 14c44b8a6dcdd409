"""Log lines: their shape as configuration data, and the context whose fields every line carries.

A line is one JSON object, or plain text on a terminal. Its members: `time` (UTC, ISO 8601), `level`, `logger`,
`message`, `exception` (a traceback), the context's (`requestId`, `traceId`, `spanId`, `paymentId`, `bookingId`, ...)
and those that the call site adds. Code writes names with underscores; only `to_json` makes camelCase of them.
"""

import json
import logging
import logging.config
import sys
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final, Literal

from pydantic.alias_generators import to_camel

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "console"]

_SHOWN: Final = 18
"""Characters of a request id on a terminal: enough of `generated-<uuid>` to tell two of them apart."""

_context: ContextVar[dict[str, Any]] = ContextVar("log_context")
_camel: Final = lru_cache(maxsize=256)(to_camel)


class context:  # noqa: N801 - used as a function
    """Every line that is written inside carries these fields, also those of libraries and of tasks started inside.

    A class, not a generator, which takes more memory: each of thousands who wait is in one.
    """

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._token = _context.set({**_context.get({}), **self._fields})

    def __exit__(self, *_: object) -> None:
        _context.reset(self._token)


def bind(**fields: Any) -> None:
    """Add fields to the current context; without one they are dropped."""
    current = _context.get(None)
    if current is not None:
        current.update((name, value) for name, value in fields.items() if value is not None)


def current() -> dict[str, Any]:
    """The fields of the current context, for a line that is written later."""
    return dict(_context.get({}))


class ContextFilter(logging.Filter):
    """Gives each record the fields of its context; those of the call site take precedence."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets everything pass."""
        for name, value in _context.get({}).items():
            record.__dict__.setdefault(name, value)
        return True


class ConsoleFormatter(logging.Formatter):
    """For a terminal: the message, and the beginning of the request id."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line above a traceback."""
        request_id = record.__dict__.get("request_id")
        return super().formatMessage(record) + (f"  [{request_id[:_SHOWN]}]" if request_id else "")


def to_json(fields: dict[str, Any], **options: Any) -> str:
    """A record's fields as one line: the time comes first, and unknown fields are left out."""
    line = {"time": fields.pop("time", None)}
    line.update((_camel(name), value) for name, value in fields.items() if value is not None)
    return _encoder(**options).encode(line)


@lru_cache(maxsize=8)
def _encoder(*, cls: type[json.JSONEncoder], **options: Any) -> json.JSONEncoder:
    """One for all lines: `json.dumps` would make one for each."""
    return cls(**options)


def configure(config: dict[str, Any]) -> None:
    """Configure logging by a `dictConfig` document; no line says from which file, thread or process it comes.

    Python's "Logging HOWTO" names these four switches: to find out what nobody reads takes a fourteenth of a line.
    """
    logging._srcfile = None  # noqa: SLF001
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.config.dictConfig(config)


def default_format() -> LogFormat:
    """Plain text on a terminal, JSON for everything that collects logs."""
    return "console" if sys.stderr.isatty() else "json"


def log_config(level: LogLevel, log_format: LogFormat) -> dict[str, Any]:
    """A `logging.config.dictConfig` document. Libraries log from WARNING up: Stripe's DEBUG shows request bodies."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"context": {"()": "runtime.logs.ContextFilter"}},
        "formatters": {
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "format": "{levelname}{name}{message}",
                "style": "{",
                "rename_fields": {"levelname": "level", "name": "logger", "exc_info": "exception"},
                "timestamp": "time",
                "json_serializer": "ext://runtime.logs.to_json",
            },
            "console": {
                "()": "runtime.logs.ConsoleFormatter",
                "fmt": "%(asctime)s %(levelname)-7s %(name)s: %(message)s",
                "datefmt": "%H:%M:%S",
            },
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": log_format,
                "filters": ["context"],
                "stream": "ext://sys.stderr",
            }
        },
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            **{name: {"level": level.upper()} for name in ("service", "bridge", "console")},
            # They tell each try to reach a server, in words of their own; ours tell its loss and its return.
            **{
                name: {"level": "CRITICAL"}
                for name in ("aio_pika.robust_connection", "aio_pika.tools", "aiormq.connection", "opentelemetry")
            },
        },
    }
