"""Pages from templates. Every value is escaped; what people and callers have written stays text."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from console.sessions import FormTokens
from service.domain.money import Money

FOLDER: Final = Path(__file__).parent
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


class Renderer:
    """Renders the templates for one console. Ages are by `now`, the database's time, which also dates what is shown."""

    def __init__(self, tokens: FormTokens, *, can_log_out: bool, now: Callable[[], datetime]) -> None:
        self._tokens = tokens
        self.now: Final = now
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "money": money,
            "moment": moment,
            "clock": clock,
            "day": day,
            "ago": ago,
            "span": span,
            "iso": iso,
            "words": words,
        }
        self._environment.globals |= {"can_log_out": can_log_out}

    def page(self, request: Request, template: str, *, status: int = HTTPStatus.OK, **values: Any) -> HTMLResponse:
        """The answer. Every template knows who asks, and the token for its forms."""
        person = getattr(request.state, "person", None)
        known = {
            "person": person,
            "path": request.url.path,
            "token": self._tokens.of(request.state.session_id, person),
            "now": self.now(),
            "query": "",
        }
        text = self._environment.get_template(template).render(known | values)
        return HTMLResponse(text, status)


def money(value: Money) -> str:
    """`1,234.50`: the currency stands beside it."""
    return f"{value.major:,f}" if isinstance(value.major, Decimal) else str(value.major)


def moment(at: datetime | None) -> str:
    """`30 Nov 2026 21:44:28`, in UTC."""
    return at.astimezone(UTC).strftime("%-d %b %Y %H:%M:%S") if at else "-"


def clock(at: datetime) -> str:
    """`21:44:28.123`, in UTC."""
    return at.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def day(at: datetime) -> str:
    """`30 Nov 2026`, in UTC."""
    return at.astimezone(UTC).strftime("%-d %b %Y")


def iso(at: datetime) -> str:
    """For the attribute of an element `time`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def span(value: timedelta | float) -> str:
    """How long, in the two largest units: `2 h 5 min`, `340 ms`."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 0:
        return f"-{span(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:  # noqa: PLR2004 - a tenth matters
        return f"{seconds:.1f} s"
    left, parts = int(seconds), list[str]()
    for length, unit in _UNITS:
        if left >= length:
            parts.append(f"{left // length} {unit}")
            left %= length
    if (left and len(parts) < 2) or not parts:  # noqa: PLR2004
        parts.append(f"{left} s")
    return " ".join(parts[:2])


def ago(at: datetime, now: datetime) -> str:
    """`3 min 10 s ago`, or `in 12 min`."""
    return f"in {span(at - now)}" if at > now else f"{span(now - at)} ago"


def words(text: str) -> str:
    """`paid_after_failed` as people read it."""
    return text.replace("_", " ")


def filled(template: str, values: Mapping[str, str]) -> str | None:
    """An address of the settings with these values in it; None if there is none, or a value that it needs is empty."""
    for name, value in values.items():
        if f"{{{name}}}" in template:
            if not value:
                return None
            template = template.replace(f"{{{name}}}", quote(value, safe=""))
    return template or None
