"""Whose money it is: the gateway's account that a key, or a database, belongs to."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GatewayAccount:
    """One account in one mode. `id` is None where the gateway does not say it."""

    livemode: bool
    id: str | None

    def may_be(self, other: "GatewayAccount") -> bool:
        """Whether both can be the same: an id that is not known rules nothing out, the mode does."""
        return self.livemode == other.livemode and (None in {self.id, other.id} or self.id == other.id)

    def __str__(self) -> str:
        mode = "live mode" if self.livemode else "test mode"
        return mode if self.id is None else f"account {self.id} in {mode}"
