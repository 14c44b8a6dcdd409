"""`python -m deploy.local run | demo | clean`: what `make run`, `make demo` and `make clean` call."""

import sys


def main() -> int:
    """Runs the command; returns the exit status."""
    try:
        # Here, as this takes half a second in which somebody may already press Ctrl-C.
        from deploy.local import cli  # noqa: PLC0415

        return cli.main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
