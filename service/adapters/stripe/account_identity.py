"""Asks Stripe which account a key belongs to."""

import re
import ssl
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from service.adapters.stripe.outcome_mapping import of_error
from service.adapters.stripe.sdk_import import stripe
from service.domain.gateway_account import GatewayAccount

ASK_SECONDS: Final = 3.0
_ID: Final = re.compile(r"acct_[A-Za-z0-9]{1,64}")
_NAMED: Final = re.compile(rf"\bon account '({_ID.pattern})'")
"""How Stripe's prose names the account to a restricted key that may not read it; no other member of the error does."""


class AccountUnknownError(Exception):
    """Stripe does not say it now: it cannot be reached, fails, or refuses the key altogether."""


class KeyRefusedError(AccountUnknownError):
    """Stripe refuses the key for every call; the text says how."""


def of_key(api_key: str) -> GatewayAccount:
    """What the key itself says: its mode."""
    return GatewayAccount(livemode="_live_" in api_key, id=None)


async def account_of(api_key: str, *, api_base: str) -> GatewayAccount:
    """The key's account, by one call, outside the rate limiter: a process makes it once.

    Many restricted keys may not read their account. The refusal names it; if it does not, the id stays unknown.

    Raises:
        AccountUnknownError: it may be known later.
        KeyRefusedError: nothing can be done with this key.
    """
    stripe.enable_telemetry = False
    mode = of_key(api_key)
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
    async with aiohttp.ClientSession(connector=connector) as session:
        client = stripe.StripeClient(
            api_key,
            http_client=stripe.AIOHTTPClient(timeout=ASK_SECONDS, session=session),
            max_network_retries=0,
            base_addresses={"api": api_base.rstrip("/")},
        )
        try:
            answer = (await client.raw_request_async("get", "/v1/account")).data
        except stripe.PermissionError as error:
            named = _NAMED.search(error.user_message or "")
            return GatewayAccount(livemode=mode.livemode, id=named and named[1])
        except stripe.AuthenticationError as error:
            raise KeyRefusedError(of_error(error).detail) from error
        except (stripe.StripeError, aiohttp.ClientError, OSError) as error:  # the SDK lets some of aiohttp's through
            raise AccountUnknownError from error
    return GatewayAccount(livemode=mode.livemode, id=_id(answer))


def _id(answer: Any) -> str:
    identifier = answer.get("id") if isinstance(answer, Mapping) else None
    if not isinstance(identifier, str) or not _ID.fullmatch(identifier):
        raise AccountUnknownError
    return identifier
