"""Where the running parts are, and by which URL each of them reaches a server."""

from dataclasses import dataclass
from typing import Final

CONSOLE_ROLE: Final = "payment_console"


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """The URLs of the running parts."""

    bridge: str
    service: str
    console: str
    sandbox: str | None
    storefront: str
    amqp: str
    database: str
    """For the superuser, as `amqp` is for the administrator; service, bridge and console have their own users."""


@dataclass(frozen=True, kw_only=True)
class Urls:
    """The URLs of a server for its administrator and for each part that uses it."""

    administrator: str
    service: str
    console: str
    bridge: str = ""

    def roles(self) -> dict[str, str]:
        """The settings of a migration that grants each role what it needs."""
        return {
            "MIGRATION_DATABASE_URL": self.administrator,
            "DATABASE_URL": self.service,
            "CONSOLE_DATABASE_ROLE": CONSOLE_ROLE,
        }
