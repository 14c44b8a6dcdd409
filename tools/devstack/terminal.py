"""The output for a person: at most 100 columns wide; colours and a spinner only on a terminal."""

import json
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.text import Text

WIDTH: Final = 100
LONGEST_STRING: Final = 60


class Terminal:
    """Writes to a terminal or a pipe."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or _console()

    def title(self, text: str) -> None:
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def say(self, text: str, *, style: str = "") -> None:
        self._console.print(Text(text, style=style))

    def ready(self, what: str, seconds: float, *, note: str = "") -> None:
        """One part is up."""
        line = Text.assemble(("  ready  ", "green"), f"{what:<12}", (f"{seconds:6.1f} s", "dim"))
        if note:
            line.append(f"   {note}")
        self._console.print(line)

    def step(self, number: int, text: str) -> None:
        self._console.print()
        self._console.print(Text.assemble((f"{number}. ", "bold cyan"), (text, "bold")))

    def sent(self, line: str, body: Any = None) -> None:
        self._exchange("sent", line, body)

    def received(self, line: str, body: Any = None, *, seconds: float) -> None:
        self._exchange("back", f"{line}   ({seconds * 1000:.0f} ms)", body)

    def text(self, text: str) -> None:
        """The output of another program, unchanged."""
        for line in text.rstrip().splitlines():
            hanging = " " * (len(line) - len(line.lstrip()) + 4)
            width = self._console.width - 3
            for part in textwrap.wrap(line, width, subsequent_indent=hanging, break_on_hyphens=False) or [""]:
                self._console.print(Text(f"   {part}"))

    def link(self, url: str) -> None:
        """A URL on its own line, never wrapped, so that it can be clicked."""
        self._console.print(Text(url, style="underline"), no_wrap=True, overflow="ignore", crop=False)

    def failure(self, text: str) -> None:
        self._console.print(Text(text, style="bold red"))

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """A spinner on a terminal; nothing in a pipe."""
        with self._console.status(Text(what)):
            yield

    def _exchange(self, direction: str, line: str, body: Any) -> None:
        self._console.print(Text.assemble((f"   {direction}  ", "cyan"), line))
        if body is not None:
            pretty = body if isinstance(body, str) else json.dumps(shortened(body), indent=2, ensure_ascii=False)
            for part in pretty.splitlines():
                self._console.print(Text(f"         {part}", style="dim"))


def shortened(body: Any) -> Any:
    """The same JSON with long strings cut: a checkout URL would fill three lines and is printed in full elsewhere."""
    if isinstance(body, dict):
        return {name: shortened(member) for name, member in body.items()}
    if isinstance(body, list):
        return [shortened(member) for member in body]
    if isinstance(body, str) and len(body) > LONGEST_STRING:
        return f"{body[: LONGEST_STRING - 3]}..."
    return body


def _console() -> Console:
    # A pipe with an old encoding must not end the stack because of a character that it lacks.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False, soft_wrap=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console
