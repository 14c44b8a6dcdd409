"""The sandbox's control API: its faults, its clock and its ledger."""

from typing import Any

import httpx

NO_FAULTS: dict[str, Any] = {
    "latency_ms": 0,
    "error_rate": 0,
    "down": False,
    "drop_responses": 0,
    "lose_responses": 0,
    "rate_limits": {},
    "account_error": False,
    "events_late_seconds": 0,
}


class StripeControls:
    """Of the sandbox at a URL; past the proxies, so that faults of the links do not disturb it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._clock_off_seconds = 0

    async def set(self, **settings: Any) -> None:
        """Change its faults."""
        await self._call("config", settings)

    async def set_clock(self, ahead_seconds: int) -> None:
        """Set its clock so far ahead of ours, or behind."""
        step, self._clock_off_seconds = ahead_seconds - self._clock_off_seconds, ahead_seconds
        await self._call("clock", {"advance_seconds": step})

    async def heal(self) -> None:
        """End all its faults."""
        await self.set_clock(0)
        await self.set(**NO_FAULTS)

    async def ledger(self) -> list[dict[str, Any]]:
        """Every session."""
        sessions: list[dict[str, Any]] = await self._call("ledger")
        return sessions

    async def most_payable(self) -> int:
        """The most sessions of one booking that were open or paid at the same moment."""
        most: int = (await self._call("stats"))["max_payable_per_booking"]
        return most

    async def _call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            url = f"{self.url}/_sandbox/{path}"
            answer = await (http.get(url) if body is None else http.post(url, json=body))
            return answer.raise_for_status().json()
