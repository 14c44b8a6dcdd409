"""The two calls of the pages to the payment bridge."""

import re
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import httpx

BASE: Final = "/api/v1/internal/payments/checkout"
IDENTITY: Final = {"X-User-Id": "1", "X-User-Roles": "USER,SERVICE_ACCOUNT"}
SESSION_ID: Final = re.compile(r"cs_[A-Za-z0-9_]{1,200}")
DOWN: Final = "The payment service cannot be reached right now. Nothing is lost: try again in a moment."


CURRENCY: Final = "inr"
"""Of all that the shop sells; a payment is reported without."""


class BridgeError(Exception):
    """The bridge gave no usable answer; the message is for the payer."""

    def __init__(self, message: str, *, temporary: bool) -> None:
        super().__init__(message)
        self.temporary = temporary


@dataclass(frozen=True, kw_only=True)
class Payment:
    """A payment as the bridge reports it. `amount` is in major units, as text."""

    status: str
    amount: str
    booking_id: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """The payment bridge at a URL; `transport` replaces the network in tests."""

    url: str
    transport: httpx.AsyncBaseTransport | None = None

    async def payment_url(self, amount: str) -> str:
        """The checkout page for a new booking of `amount`, in major units.

        Raises:
            BridgeError: The bridge gave none.
        """
        body = {"bookingId": time.time_ns() // 1_000_000, "userId": 1, "amount": amount, "currency": CURRENCY}
        url = str((await self._call("POST", "/create", body)).get("paymentUrl"))
        if not url.startswith(("https://", "http://")):
            raise BridgeError("The payment service gave no checkout page.", temporary=False)
        return url

    async def payment(self, session_id: str) -> Payment:
        """The state of a payment.

        Raises:
            BridgeError: It is not known.
        """
        if not SESSION_ID.fullmatch(session_id):
            raise BridgeError("This address names no payment.", temporary=False)
        answer = await self._call("GET", f"/verify/{session_id}")
        return Payment(
            status=str(answer.get("paymentStatus")),
            amount=_formatted(answer.get("amount")),
            booking_id=str(answer.get("bookingId")),
            message=str(answer.get("message") or ""),
        )

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=20, transport=self.transport) as client:
                response = await client.request(method, f"{self.url}{BASE}{path}", json=body, headers=IDENTITY)
            answer = response.json(parse_float=Decimal)
        except (httpx.HTTPError, ValueError) as error:
            raise BridgeError(DOWN, temporary=True) from error
        if response.is_success and isinstance(answer, dict):
            return answer
        message = answer.get("message") if isinstance(answer, dict) else None
        raise BridgeError(str(message or DOWN), temporary=response.is_server_error)


def _formatted(amount: Any) -> str:
    """449.5 as 449.50; a whole number unchanged, because some currencies have no smaller unit."""
    return f"{amount:.2f}" if isinstance(amount, Decimal) and amount.as_tuple().exponent == -1 else str(amount)
