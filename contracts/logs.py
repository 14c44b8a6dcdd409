"""The shape of a log line, as configuration data: one JSON object a line, or plain text on a terminal.

Fields of a JSON line: `time` (UTC, ISO 8601), `level`, `logger`, `message`, and whatever the call site adds
(`request_id`, `payment_id`, `duration_ms`, ...).
"""

import sys
from typing import Any, Literal

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "console"]


def default_format() -> LogFormat:
    """Plain text for a person at a terminal, JSON for everything that collects logs."""
    return "console" if sys.stderr.isatty() else "json"


def log_config(level: LogLevel, log_format: LogFormat) -> dict[str, Any]:
    """A `logging.config.dictConfig` document. Libraries speak from WARNING up: Stripe's DEBUG shows request bodies."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "format": "{levelname}{name}{message}",
                "style": "{",
                "rename_fields": {"levelname": "level", "name": "logger"},
                "timestamp": "time",
            },
            "console": {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s", "datefmt": "%H:%M:%S"},
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": log_format, "stream": "ext://sys.stderr"}
        },
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {name: {"level": level.upper()} for name in ("service", "bridge")},
    }
