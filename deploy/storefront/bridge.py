"""The two calls to the payment bridge that the pages need."""

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


class BridgeError(Exception):
    """What to tell the payer instead of an answer."""

    def __init__(self, message: str, *, temporary: bool) -> None:
        super().__init__(message)
        self.temporary = temporary


@dataclass(frozen=True, kw_only=True)
class Payment:
    """What the bridge says about a payment. `amount` is in major units, as text."""

    status: str
    amount: str
    booking_id: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """The payment bridge at a URL."""

    url: str

    def payment_url(self, amount: str) -> str:
        """The checkout page for a new booking of `amount`, in major units.

        Raises:
            BridgeError: There is none; its text is for the payer.
        """
        body = {"bookingId": time.time_ns() // 1_000_000, "userId": 1, "amount": amount}
        url = str(self._ask("POST", "/create", body).get("paymentUrl"))
        if not url.startswith(("https://", "http://")):
            raise BridgeError("The payment service gave no checkout page.", temporary=False)
        return url

    def payment(self, session_id: str) -> Payment:
        """The state of a payment.

        Raises:
            BridgeError: It is not known; its text is for the payer.
        """
        if not SESSION_ID.fullmatch(session_id):
            raise BridgeError("This address names no payment.", temporary=False)
        answer = self._ask("GET", f"/verify/{session_id}")
        return Payment(
            status=str(answer.get("paymentStatus")),
            amount=_shown(answer.get("amount")),
            booking_id=str(answer.get("bookingId")),
            message=str(answer.get("message") or ""),
        )

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            with httpx.Client(trust_env=False, timeout=20) as client:
                response = client.request(method, f"{self.url}{BASE}{path}", json=body, headers=IDENTITY)
            answer = response.json(parse_float=Decimal)
        except (httpx.HTTPError, ValueError) as error:
            raise BridgeError(DOWN, temporary=True) from error
        if response.is_success and isinstance(answer, dict):
            return answer
        message = answer.get("message") if isinstance(answer, dict) else None
        raise BridgeError(str(message or DOWN), temporary=response.is_server_error)


def _shown(amount: Any) -> str:
    """449.5 as 449.50; a whole number as it is, as some currencies have no smaller unit."""
    return f"{amount:.2f}" if isinstance(amount, Decimal) and amount.as_tuple().exponent == -1 else str(amount)
