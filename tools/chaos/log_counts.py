"""Counts the log lines of our processes by their text."""

import json
import re
from collections import Counter
from pathlib import Path

LONGEST = 160
_NUMBERS = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]+")


def counted(folder: Path, *levels: str) -> dict[str, int]:
    """Log lines of these levels by kind of process, without numbers and ids; most frequent first."""
    lines: Counter[str] = Counter()
    for log in sorted(folder.glob("*.log")):
        kind = log.name.partition("-")[0].partition(".")[0]
        texts = (_text(line, levels) for line in log.read_text(errors="replace").splitlines())
        lines.update(f"{kind}: {text}" for text in texts if text)
    return dict(lines.most_common())


def _text(line: str, levels: tuple[str, ...]) -> str:
    """The message and the last line of its traceback; empty for other levels."""
    try:
        entry = json.loads(line)
    except ValueError:
        return ""
    if not isinstance(entry, dict) or entry.get("level") not in levels:
        return ""
    cause = str(entry.get("exception", "")).strip().rpartition("\n")[2]
    text = f"{entry.get('message', '')} ({cause})" if cause else str(entry.get("message", ""))
    return _NUMBERS.sub("#", text)[:LONGEST]
