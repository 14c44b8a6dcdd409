"""The output to a pipe: no control characters, and no line wider than 100 columns except a URL."""

import io

from rich.console import Console

from tools.devstack.terminal import WIDTH, Terminal, shortened


def _output(*calls: str) -> list[str]:
    out = io.StringIO()
    terminal = Terminal(Console(file=out, width=WIDTH, highlight=False))
    for call in calls:
        getattr(terminal, call)("word " * 60)
    return out.getvalue().splitlines()


def test_nothing_is_wider_than_100_columns() -> None:
    lines = _output("title", "say", "text", "sent", "failure")
    assert max(map(len, lines)) <= WIDTH
    assert "\x1b" not in "".join(lines)


def test_a_link_is_never_broken() -> None:
    out = io.StringIO()
    url = "http://127.0.0.1/" + "x" * 300
    Terminal(Console(file=out, width=WIDTH)).link(url)
    assert out.getvalue() == f"{url}\n"


def test_long_strings_are_cut_wherever_they_are() -> None:
    body = {"a": ["x" * 100, 5], "b": {"c": "y" * 60}}
    assert shortened(body) == {"a": ["x" * 57 + "...", 5], "b": {"c": "y" * 60}}
