"""The command `payment-console`, as it is installed: imports the rest, which needs the extra of that name."""

from runtime import command_start


def main() -> None:
    """Run it, or say which extra is missing."""
    command_start.end_on_sigterm()
    with command_start.needing("console", command="payment-console"):
        from console.__main__ import main as command  # noqa: PLC0415 - what is missing has to be caught
    command()
