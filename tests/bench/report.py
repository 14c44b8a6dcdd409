"""The figures as text for a terminal and as a picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

_COLUMNS = {
    "callers": "callers",
    "ceiling_per_second": "ceiling/s",
    "bare_sdk_per_second": "bare SDK/s",
    "creates_per_second": "creates/s",
    "ratio_to_bare_sdk": "ratio",
    "errors": "errors",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "cpu_ms_per_create": "CPU ms each",
}


def text(figures: dict[str, Any]) -> str:
    """A few tables, with the goal beside each figure that has one."""
    return "\n".join(_lines(figures))


def _lines(figures: dict[str, Any]) -> Iterator[str]:
    trips = figures["requester"]
    yield from ("", figures["machine"], "")
    for name, title in (("http", "requester behind HTTP"), ("bare", "bare aio-pika")):
        spread = f"{trips[f'{name}_lowest']:.0f} to {trips[f'{name}_highest']:.0f}"
        yield f"{title:<24}{trips[f'{name}_per_second']:>6.0f}/s   ({spread})"
    yield f"{'ratio':<24}{trips['ratio']:>6.2f}     goal: at least 0.8"
    yield from ("", "creates while Stripe takes 300 ms", "  ".join(_COLUMNS.values()))
    for row in figures["creates"]:
        yield "  ".join(f"{row[name]:>{len(title)}}" for name, title in _COLUMNS.items())
    yield from ("", "cores used")
    for row in figures["creates"]:
        shares = "  ".join(f"{name} {share:.2f}" for name, share in row["cores_used"].items() if share >= 0.01)
        yield f"{row['callers']:>7}  {shares}"
    full = figures["creates"][-1]["cores_used"]
    first = max(full, key=lambda name: full[name])
    yield f"fullest at the most callers: {first} ({full[first]:.2f} of one core); all together {sum(full.values()):.2f}"
    memory, ready = figures["memory_mb"], figures["ready_seconds"]
    together = sum(memory.values())
    yield ""
    yield f"memory afterwards       {_named(memory, 'MB')}, together {together:.0f} MB     goal: at most 250"
    yield f"from start to ready     {_named(ready, 's')}     goal: at most 3 each"
    yield ""


def _named(values: dict[str, float], unit: str) -> str:
    return ", ".join(f"{name} {value} {unit}" for name, value in values.items())


def draw(figures: dict[str, Any], file: Path) -> None:
    """Two plots: how creates grow with the callers, and who uses the processor."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second that only the last step needs

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    rows = figures["creates"]
    callers = [row["callers"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    left.plot(callers, [row["ceiling_per_second"] for row in rows], ":", color="0.6", label="callers / 300 ms")
    left.plot(callers, [row["bare_sdk_per_second"] for row in rows], "o--", color="tab:gray", label="bare Stripe SDK")
    left.plot(callers, [row["creates_per_second"] for row in rows], "o-", color="tab:blue", label="creates over HTTP")
    left.set(xlabel="concurrent callers", ylabel="per second", title="Creates while Stripe takes 300 ms")
    left.set_ylim(0, 1.2 * max(row["bare_sdk_per_second"] for row in rows))
    left.grid(alpha=0.3)
    left.legend()
    bottom = [0.0] * len(rows)
    places = range(len(rows))
    for name in rows[-1]["cores_used"]:
        shares = [row["cores_used"].get(name, 0.0) for row in rows]
        if max(shares) >= 0.02:
            right.bar(places, shares, bottom=bottom, label=name)
            bottom = [low + share for low, share in zip(bottom, shares, strict=True)]
    right.set_xticks(list(places), [str(count) for count in callers])
    right.set(xlabel="concurrent callers", ylabel="cores", title="Who uses the processor")
    right.legend(ncols=2, fontsize=8)
    figure.suptitle(f"{figures['machine']}, {figures['at']}", fontsize=9, color="0.4")
    figure.savefig(file, dpi=110)
    plt.close(figure)
