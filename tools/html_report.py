"""What the result pages of `tools.bench` and `tools.chaos` share: printed text and SVG plots in one HTML file."""

import html
import io
from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.console import Console

GOOD, BAD, INK, FAINT, LINE, GRID = "#2f7d4f", "#c8324a", "#22272e", "#66707c", "#d8dce1", "#eef0f2"
WIDTH: Final = 132
"""Columns of what is printed to a pipe or into a page."""

_STYLE: Final = f"""
:root {{ color-scheme: light; }}
body {{ margin: 0; background: #f5f6f8; color: {INK}; }}
main {{ max-width: 1220px; margin: 0 auto; padding: 24px; display: grid; gap: 14px;
        grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); }}
pre, figure {{ margin: 0; padding: 16px; background: #fff; border: 1px solid {LINE}; border-radius: 12px; }}
pre, figure:only-of-type {{ grid-column: 1 / -1; }}
pre {{ overflow-x: auto; font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }}
figcaption {{ font: 600 15px system-ui, "DejaVu Sans", sans-serif; }}
svg {{ width: 100%; height: auto; display: block; }}
"""
_PLOT_STYLE: Final = {
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": LINE,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def page(title: str, *parts: str) -> str:
    """The whole page; it loads no other file."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><link rel="icon" href="data:,"><style>{_STYLE}</style></head>
<body><main>
{"".join(parts)}
</main></body></html>
"""


def terminal() -> Console:
    """The console for a person or a pipe."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def printed(show: Callable[[Console], object]) -> str:
    """What `show` prints, as HTML with its colours."""
    console = Console(record=True, file=io.StringIO(), width=WIDTH, highlight=False)
    show(console)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>\n")


def svg(title: str, draw: Callable[[Any], Any], style: Mapping[str, Any]) -> str:
    """The figure that `draw` makes of `matplotlib.pyplot`, with its title; the same figure is the same text."""
    import matplotlib as mpl  # noqa: PLC0415 - takes half a second and only the last step needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    settings: dict[Any, Any] = {**_PLOT_STYLE, "svg.hashsalt": title, **style}
    with mpl.rc_context(settings):
        figure = draw(plt)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
        plt.close(figure)
    text = file.getvalue()
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{text[text.index('<svg') :]}</figure>\n"
