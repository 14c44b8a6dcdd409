"""`python -m tools.devstack run | demo | clean`: what `make run`, `make demo` and `make clean` call."""

import sys


def main() -> int:
    """Runs a command; the exit status."""
    try:
        # Imported here: it takes half a second, in which Ctrl-C must already work.
        from tools.devstack import cli  # noqa: PLC0415

        return cli.main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
