"""The result as one page: no file beside it, nothing from the network."""

import html
import io
from typing import Any

from tests.chaos.report import COLUMNS

COLOURS = {
    "service": "#d1495b",
    "bridge": "#e8853d",
    "broker": "#8b5fbf",
    "database": "#3a6ea5",
    "link": "#2a9d8f",
    "Stripe": "#d4a017",
}
GOOD, BAD, INK, FAINT = "#3f8f5f", "#c8324a", "#22272e", "#8a94a0"

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f5f6f8; color: #22272e; font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 32px 28px 64px; }
h1 { font-size: 27px; margin: 0 0 4px; letter-spacing: -.01em; } h2 { font-size: 18px; margin: 36px 0 12px; }
p.sub { color: #66707c; margin: 0 0 22px; } code { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; }
.card { background: #fff; border: 1px solid #e3e6ea; border-radius: 12px; padding: 18px 20px; }
.verdict { display: flex; align-items: center; gap: 18px; border-left: 6px solid var(--tone); margin-bottom: 16px; }
.verdict b { font-size: 20px; color: var(--tone); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(114px, 1fr)); gap: 12px; margin-bottom: 16px; }
.card.tile { padding: 16px 14px; }
.tile b { display: block; font-size: 25px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: #66707c; font-size: 13px; }
.wide { overflow-x: auto; } svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th { text-align: right; font-weight: 600; color: #66707c; border-bottom: 1px solid #d8dce1; padding: 6px 10px;
     vertical-align: bottom; hyphens: manual; }
td { text-align: right; padding: 6px 10px; border-bottom: 1px solid #eef0f2; vertical-align: top; }
th:first-child, td:first-child, td.text { text-align: left; } tr:last-child td { border-bottom: 0; }
i.dot { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 9px; }
.bad { color: #c8324a; font-weight: 600; } .good { color: #3f8f5f; font-weight: 600; } .none { color: #b6bdc5; }
ul.ids { margin: 4px 0 4px; padding-left: 18px; color: #c8324a; font-size: 13px; }
pre { margin: 6px 0; padding: 12px 14px; background: #f0f2f4; border-radius: 8px; overflow-x: auto; font-size: 12.5px;
      white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def render(figures: dict[str, Any]) -> str:
    """The whole page."""
    broken = sum(each["count"] for each in figures["invariants"].values())
    verdict = (
        f"{broken} violations: {', '.join(name for name, each in figures['invariants'].items() if each['count'])}"
        if broken
        else "Nothing lost, nobody charged twice"
    )
    title = f"Chaos run, seed {figures['seed']}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}: {verdict}</title><style>{STYLE}</style></head><body><main>
<h1>{title}</h1>
<p class="sub">{_text(figures["at"])} · {len(figures["faults"])} faults in {figures["seconds"]:.0f} s ·
{_text(figures["machine"])}</p>
<div class="card verdict" style="--tone: {BAD if broken else GOOD}"><b>{_text(verdict)}</b>
<span>repeat with <code>{_text(figures["command"])}</code></span></div>
<div class="tiles">{_tiles(figures)}</div>
<div class="card wide">{draw(figures)}</div>
<h2>Invariants</h2><div class="card wide">{_invariants(figures)}</div>
<h2>Faults, and what clients saw while each lasted</h2><div class="card wide">{_kinds(figures)}</div>
<h2>Operations</h2><div class="card wide">{_operations(figures)}</div>
<h2>Afterwards</h2><div class="card wide">{_afterwards(figures)}</div>
</main></body></html>
"""


def _tiles(figures: dict[str, Any]) -> str:
    totals = figures["totals"]
    names = ("operations", "kills", "attempts", "acknowledged", "recovered", "failed", "lost", "duplicated")
    tiles = {name: totals[name] for name in names} | {"per minute": figures["per_minute"]}
    return "".join(
        f'<div class="card tile"><b class="{"bad" if name in {"lost", "duplicated"} and value else ""}">{value:,}</b>'
        f"<span>{name}</span></div>"
        for name, value in tiles.items()
    )


def _invariants(figures: dict[str, Any]) -> str:
    rows = []
    for name, invariant in figures["invariants"].items():
        examples = "".join(f"<li>{_text(example)}</li>" for example in invariant["examples"])
        more = f'<ul class="ids">{examples}</ul>' if examples else ""
        tone = "bad" if invariant["count"] else "good"
        rows.append(
            f'<tr><td>{name}</td><td class="text">{_text(invariant["text"])}{more}</td>'
            f'<td class="{tone}">{invariant["count"]}</td></tr>'
        )
    return f"<table>{''.join(rows)}</table>"


def _kinds(figures: dict[str, Any]) -> str:
    head = "".join(f"<th>{title}</th>" for title in COLUMNS.values())
    rows = "".join(
        f'<tr><td><i class="dot" style="background:{colour(kind)}"></i>{_text(kind)}</td>'
        + "".join(_cell(name, row[name]) for name in COLUMNS)
        + "</tr>"
        for kind, row in figures["kinds"].items()
    )
    return f"<table><tr><th>fault</th>{head}</tr>{rows}</table>"


def _cell(name: str, value: Any) -> str:
    bad = name in {"lost", "duplicated"} and value
    tone = "bad" if bad else "none" if value in {0, None} else ""
    return f'<td class="{tone}">{"-" if value is None else value}</td>'


def _operations(figures: dict[str, Any]) -> str:
    names = ("operations", "attempts", "acknowledged", "refused", "failed", "recovered", "deserted")
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{kind}</td>{''.join(_cell(name, row[name]) for name in names)}</tr>"
        for kind, row in figures["operations"].items()
    )
    answers = ", ".join(f"{count:,} &times; {_text(name)}" for name, count in figures["answers"].items())
    return f"<table><tr><th>what</th>{head}</tr>{rows}</table><p>All attempts: {answers}</p>"


def _afterwards(figures: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{_text(name)}</td>{_cell('', count)}</tr>"
        for name, count in {**figures["open"], **figures["measured"]}.items()
    )
    deaths = "".join(
        f"<p>{name} ended by itself {len(ends)} times. Its last words:</p><pre>{_text(ends[-1])}</pre>"
        for name, ends in figures["deaths"].items()
    )
    logged = "\n".join(f"{count:>5}  {line}" for line, count in figures["logged"].items())
    errors = f"<p>Errors in the logs</p><pre>{_text(logged)}</pre>" if logged else ""
    waited = f"after {figures['waited_seconds']:.0f} s of waiting"
    return f"<table><tr><th>{waited}</th><th></th></tr>{rows}</table>{deaths}{errors}"


def colour(kind: str) -> str:
    """A fault kind's colour: that of the part that it hits."""
    return next((value for name, value in COLOURS.items() if kind.startswith((name, f"{name}s"))), FAINT)


def _text(value: object) -> str:
    return html.escape(str(value), quote=False)


# --- the picture ------------------------------------------------------------------------------------------------------


def draw(figures: dict[str, Any]) -> str:
    """Load, latency and faults over one time axis, as SVG."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second that only the last step needs

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "chaos",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": "#66707c",
        "axes.edgecolor": "#d8dce1",
        "xtick.color": "#66707c",
        "ytick.color": "#66707c",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    lanes = _lanes(figures["faults"])
    height = 5.2 + 0.19 * len(lanes)
    with mpl.rc_context(style):
        figure, (load, latency, faults) = plt.subplots(
            3, 1, figsize=(13, height), sharex=True, height_ratios=[2.4, 2.0, height - 4.4], layout="constrained"
        )
        _draw_load(load, figures)
        _draw_latency(latency, figures)
        _draw_faults(faults, figures, lanes)
        for axes in (load, latency):
            for fault in figures["faults"]:
                axes.axvspan(
                    fault["began"],
                    max(fault["felt"], fault["began"] + 0.25),
                    color=colour(fault["kind"]),
                    alpha=0.13,
                    linewidth=0,
                )
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
        plt.close(figure)
    svg = file.getvalue()
    return svg[svg.index("<svg") :]


def _draw_load(axes: Any, figures: dict[str, Any]) -> None:
    timeline = figures["timeline"]
    at = range(len(timeline["acknowledged"]))
    axes.bar(
        at, timeline["acknowledged"], width=1.0, align="edge", color=GOOD, alpha=0.8, label="acknowledged per second"
    )
    axes.bar(
        at,
        [-count for count in timeline["errors"]],
        width=1.0,
        align="edge",
        color=BAD,
        alpha=0.9,
        label="errors per second (downwards)",
    )
    axes.axhline(0, color="#d8dce1", linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set_ylabel("attempts per second")
    axes.legend(loc="upper left", ncols=2, frameon=False, bbox_to_anchor=(0, 1.16))


def _draw_latency(axes: Any, figures: dict[str, Any]) -> None:
    timeline = figures["timeline"]
    at = [second + 0.5 for second in range(len(timeline["p50"]))]
    gap = float("nan")
    worst = [gap if value is None else value for value in timeline["worst"]]
    median = [gap if value is None else value for value in timeline["p50"]]
    axes.plot(at, worst, color="#e8853d", linewidth=1.1, marker=".", markersize=3, label="slowest acknowledged, ms")
    axes.plot(at, median, color="#3a6ea5", linewidth=1.6, label="median, ms")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("latency")
    axes.grid(axis="y", color="#eef0f2")
    axes.legend(loc="upper left", ncols=2, frameon=False, bbox_to_anchor=(0, 1.18))


def _draw_faults(axes: Any, figures: dict[str, Any], lanes: dict[str, int]) -> None:
    for fault in figures["faults"]:
        lane, tone = lanes[_lane(fault)], colour(fault["kind"])
        length = max(fault["felt"] - fault["began"], 0.003 * figures["seconds"])
        axes.barh(lane, length, left=fault["began"], height=0.62, color=tone)
        if fault["recovery"] is not None:
            after = fault["ended"] + fault["recovery"]
            axes.plot([fault["ended"], after], [lane, lane], color=tone, linewidth=1.2, linestyle=":")
            axes.plot(after, lane, marker="o", markersize=4, color="white", markeredgecolor=GOOD, markeredgewidth=1.4)
    axes.set_ylim(len(lanes) - 0.2, -0.8)
    axes.set_yticks([*lanes.values()], [*lanes], fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color="#eef0f2")
    axes.set_axisbelow(True)
    axes.set_xlim(0, figures["seconds"])
    axes.set_xlabel("seconds from the start of the load   (ring: first checkout acknowledged after the fault)")
    axes.spines["left"].set_visible(False)


def _lanes(faults: list[dict[str, Any]]) -> dict[str, int]:
    """A row for each kind of fault and what it hit: as many faults as there are, the picture keeps its height."""
    return {name: place for place, name in enumerate(sorted({_lane(fault) for fault in faults}))}


def _lane(fault: dict[str, Any]) -> str:
    """Named after the kind, and the target where the kind does not tell it."""
    kind, target = fault["kind"], fault["target"]
    return kind if kind.lower().startswith(target) else f"{kind} · {target}"
