"""What our processes said, by how often they said it."""

import json
from collections import Counter
from pathlib import Path

LONGEST = 140


def counted(folder: Path, *levels: str) -> dict[str, int]:
    """Each line of these levels in a folder's logs, without its numbers, with the kind of process; frequent first."""
    lines: Counter[str] = Counter()
    for log in sorted(folder.glob("*.log")):
        kind = log.name.partition("-")[0].partition(".")[0]
        texts = (_text(line, levels) for line in log.read_text(errors="replace").splitlines())
        lines.update(f"{kind}: {text}" for text in texts if text)
    return dict(lines.most_common())


def _text(line: str, levels: tuple[str, ...]) -> str:
    """The message and the last line of its traceback; empty if it is not of these levels."""
    try:
        entry = json.loads(line)
    except ValueError:
        return ""
    if not isinstance(entry, dict) or entry.get("level") not in levels:
        return ""
    cause = str(entry.get("exc_info", "")).strip().rpartition("\n")[2]
    text = f"{entry.get('message', '')} ({cause})" if cause else str(entry.get("message", ""))
    return "".join("#" if letter.isdigit() else letter for letter in text)[:LONGEST]
