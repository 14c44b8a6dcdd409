"""`python -m tools.lint [words] [layout] [pages]`: the project's own lints; exit status 1 if anything is found."""

import sys
from itertools import chain
from pathlib import Path
from typing import Final

from tools.lint import layout, pages, retired_words

ROOT: Final = Path(__file__).parents[2]
LINTS: Final = {"words": retired_words.check, "layout": layout.check, "pages": pages.check}


def main(names: list[str], root: Path = ROOT) -> int:
    """Run the named lints, or all; print one line for each finding."""
    if unknown := set(names) - set(LINTS):
        print(f"no such lint: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    findings = list(chain.from_iterable(LINTS[name](root) for name in names or LINTS))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
