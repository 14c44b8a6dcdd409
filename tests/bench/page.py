"""The result as one page: no file beside it, nothing from the network."""

import html
import io
from collections.abc import Mapping
from typing import Any

from tests.bench.figures import Figure, Part, Plot, from_json, is_noisy, number, said, verdict

GOOD, BAD, INK, FAINT = "#2f7d4f", "#c8324a", "#22272e", "#66707c"
COLOURS = ("#2f6db3", "#d08a1d", "#7a59b5", "#2a9d8f", "#c8527a", "#8a94a0", "#5d8a3a")
MOST_LABELS = 12
STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f6f8; color: #22272e; font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 28px 64px; }
h1 { font-size: 27px; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 20px; margin: 0; letter-spacing: -.005em; } h2 a { color: inherit; text-decoration: none; }
h2 span { color: #66707c; font-weight: 600; margin-right: 8px; }
p { margin: 6px 0 14px; } p.sub, .how { color: #66707c; } .how { max-width: 80ch; }
section { background: #fff; border: 1px solid #e3e6ea; border-radius: 12px; padding: 20px 22px; margin-top: 20px; }
nav { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin-top: 20px; }
nav a { background: #fff; border: 1px solid #e3e6ea; border-left: 5px solid var(--tone); border-radius: 10px;
        padding: 9px 12px; color: inherit; text-decoration: none; font-size: 13px; line-height: 1.35; }
nav b { display: block; font-size: 16px; } nav em { font-style: normal; color: var(--tone); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th { text-align: right; font-weight: 600; color: #66707c; border-bottom: 1px solid #d8dce1; padding: 6px 10px; }
td { text-align: right; padding: 6px 10px; border-bottom: 1px solid #eef0f2; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; }
td.value { font-weight: 600; } tr:last-child td { border-bottom: 0; }
.good { color: #2f7d4f; font-weight: 600; } .bad { color: #c8324a; font-weight: 600; } .faint { color: #66707c; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); gap: 14px 26px;
         margin-top: 20px; }
figure { margin: 0; } figcaption { font-weight: 600; margin-bottom: 4px; }
svg { width: 100%; height: auto; display: block; }
ul { margin: 16px 0 0; padding-left: 18px; color: #66707c; font-size: 13.5px; }
p.noise { color: #66707c; font-size: 13px; margin: 14px 0 0; }
@media (max-width: 700px) {
  main { padding: 20px 12px 40px; } section { padding: 16px 14px; } h1 { font-size: 23px; }
  table, tbody { display: block; } tr.head { display: none; }
  tr { display: flex; flex-wrap: wrap; gap: 0 12px; padding: 8px 0; border-bottom: 1px solid #eef0f2; }
  td { padding: 0; border: 0; } td:first-child { flex: 0 0 100%; } td:empty { display: none; }
  td[data-label]::before { content: attr(data-label) " "; color: #66707c; font-weight: 400; }
}
"""


def render(run: Mapping[str, Any]) -> str:
    """The whole page, from what `bench.json` holds."""
    parts = [from_json(part) for part in run["parts"]]
    goals, met = verdict(figure for part in parts for figure in part.figures)
    failed = "".join(
        f'<section><h2><span>{name.upper()}</span>Not measured</h2><p class="bad">{_text(reason)}</p></section>'
        for name, reason in run["failed"].items()
    )
    quick = " · a quick run, with less of everything" if run["quick"] else ""
    minutes = sum(part.seconds for part in parts) / 60
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Benchmarks: {met} of {goals} goals met</title><link rel="icon" href="data:,"><style>{STYLE}</style></head>
<body><main>
<h1>Benchmarks: {met} of {goals} goals met</h1>
<p class="sub">{_text(run["machine"]["text"])}<br>{_text(run["at"])} · commit {_text(run["commit"] or "unknown")} ·
{minutes:.0f} minutes{quick}</p>
<nav>{"".join(_tile(part) for part in parts)}</nav>
{failed}{"".join(_section(part) for part in parts)}
</main></body></html>
"""


def _tile(part: Part) -> str:
    goals, met = verdict(part.figures)
    tone = FAINT if not goals else GOOD if met == goals else BAD
    words = f"{met} of {goals} met" if goals else "no goal"
    return (
        f'<a href="#{part.name}" style="--tone: {tone}"><b>{part.name.upper()}</b>{_text(part.title)}<br>'
        f"<em>{words}</em></a>"
    )


def _section(part: Part) -> str:
    plots = "".join(f"<figure><figcaption>{_text(plot.title)}</figcaption>{draw(plot)}</figure>" for plot in part.plots)
    notes = "".join(f"<li>{_text(note)}</li>" for note in part.notes)
    title = f'<a href="#{part.name}"><span>{part.name.upper()}</span>{_text(part.title)}</a>'
    return f"""<section id="{part.name}"><h2>{title}</h2>
<p class="how">{_text(part.how)}</p>
<table><tbody><tr class="head"><th>Figure</th><th>Value</th><th>Goal</th><th></th><th>Baseline</th><th>Ratio</th></tr>
{"".join(_row(figure) for figure in part.figures)}</tbody></table>
<div class="plots">{plots}</div>{f"<ul>{notes}</ul>" if notes else ""}{_noise(part)}</section>
"""


def _row(figure: Figure) -> str:
    tone = {None: "", True: "good", False: "bad"}[figure.met]
    value = f"{number(figure.value)} {figure.unit}".strip()
    ratio = "" if figure.ratio is None else number(figure.ratio)
    baseline = f'{number(figure.baseline)} <span class="faint">{_text(figure.against)}</span>' if figure.against else ""
    return (
        f'<tr><td>{_text(figure.name)}</td><td class="value">{_text(value)}</td>'
        f'<td{_label("goal", figure.goal)}>{_text(figure.goal)}</td><td class="{tone}">{said(figure.met)}</td>'
        f"<td{_label('baseline', baseline)}>{baseline}</td><td{_label('ratio', ratio)}>{ratio}</td></tr>"
    )


def _label(name: str, content: str) -> str:
    """What stands before it where a row has no head."""
    return f' data-label="{name}"' if content else ""


def _noise(part: Part) -> str:
    if not part.noise:
        return ""
    noise = part.noise
    busy = ' <b class="bad">Others used this machine: the figures tell little.</b>' if is_noisy(noise) else ""
    return (
        f'<p class="noise">Took {part.seconds:.0f} s. Just before, one piece of work, done again and again, took '
        f"{noise['work_ms']:g} ms, at worst {noise['slowest']:g} times as long; load average {noise['load']:g}, "
        f"{noise['steal']:g} % stolen.{busy}</p>"
    )


def _text(value: object) -> str:
    return html.escape(str(value), quote=False)


# --- plots ------------------------------------------------------------------------------------------------------------


def draw(plot: Plot) -> str:
    """As SVG."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second that only the last step needs
    from cycler import cycler  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    style: dict[Any, Any] = {
        "svg.hashsalt": plot.title,
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "text.color": INK,
        "axes.labelcolor": FAINT,
        "axes.edgecolor": "#d8dce1",
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=COLOURS),
    }
    with mpl.rc_context(style):
        figure, axes = plt.subplots(figsize=(5.2, 3.0), layout="constrained")
        (_draw_lines if plot.kind == "lines" else _draw_bars)(axes, plot)
        if plot.goal is not None:
            axes.axhline(float(plot.goal), color=BAD, linewidth=1, linestyle=":", label=plot.goal_name)
        axes.set(xlabel=plot.xlabel, ylabel=plot.ylabel)
        if plot.log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:,g}" if plot.log and _begins(value, "25") else "")
        axes.grid(axis="y", color="#eef0f2")
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8.5, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
        plt.close(figure)
    svg = file.getvalue()
    label = html.escape(plot.title)
    return svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _begins(value: float, digits: str) -> bool:
    """Enough labels on an axis of less than a few decades, and not too many."""
    return f"{value:e}"[0] in digits


def _draw_lines(axes: Any, plot: Plot) -> None:
    named = any(isinstance(value, str) for value in plot.x)
    places = range(len(plot.x)) if named else plot.x
    for name, values in plot.series.items():
        gaps = [float("nan") if value is None else float(value) for value in values]
        axes.plot(
            places, gaps, label=name, linewidth=1.6, marker="o" if len(values) <= MOST_LABELS else "", markersize=4
        )
    if named or len(plot.x) <= MOST_LABELS:
        axes.set_xticks(list(places), [str(value) for value in plot.x])


def _draw_bars(axes: Any, plot: Plot) -> None:
    """Stacked, or side by side."""
    places = list(range(len(plot.x)))
    stacked = plot.kind == "stacked"
    width = 0.6 if stacked else 0.8 / len(plot.series)
    bottom = [0.0] * len(places)
    for order, (name, values) in enumerate(plot.series.items()):
        heights = [0.0 if value is None else float(value) for value in values]
        shift = 0.0 if stacked else (order - (len(plot.series) - 1) / 2) * width
        axes.bar([place + shift for place in places], heights, width=width, bottom=bottom, label=name)
        if stacked:
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_xticks(places, [str(value) for value in plot.x])
