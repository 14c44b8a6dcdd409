"""Holds the database to the account of Stripe's that it was first used with: its payments mean nothing to another."""

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Final

from runtime.aio import Backoff
from service.adapters import postgres, stripe
from service.adapters.postgres import Database
from service.adapters.stripe import AccountUnknownError, KeyRefusedError
from service.domain.errors import StoreUnavailableError
from service.domain.gateway_account import GatewayAccount
from service.settings import GatewaySettings, Settings
from service.startup import StartError
from service.workers import supervision

_log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS: Final = 30.0
"""Between two tries to learn the account from a Stripe that does not answer."""


async def pin(settings: Settings, database: Database, stack: AsyncExitStack, *, failed: asyncio.Event) -> None:
    """Pin the database, or raise StartError if it is another account's, or StoreUnavailableError.

    While Stripe does not answer, the mode alone is held against the pin, and the account as soon as it answers: the
    process fails then if it is the wrong one. A start must not depend on Stripe.
    """
    if not await _pin(settings, database):
        _log.warning("Stripe does not say yet whose STRIPE_API_KEY is: only its mode is held against the database")
        supervision.run_until_cancelled(stack, _pin_later(settings, database), name="account-pin", failed=failed)


async def problem_of(database: Database, account: GatewayAccount, unknown: AccountUnknownError | None) -> str | None:
    """Why the key of `account_of` is not for this database, or for nothing, as a sentence; None if it is.

    Nothing is pinned.
    """
    try:
        owner = await postgres.pinned(database)
    except StoreUnavailableError:  # which is another sentence, and somebody else's
        owner = None
    if owner is not None and not owner.may_be(account):
        return _sentence(owner, account)
    return f"Stripe refuses STRIPE_API_KEY ({unknown})." if isinstance(unknown, KeyRefusedError) else None


async def account_of(settings: GatewaySettings) -> tuple[GatewayAccount, AccountUnknownError | None]:
    """What is known of the key's account now, and why that is not all there is to know."""
    key = settings.stripe_api_key.get_secret_value()
    try:
        return await stripe.account_of(key, api_base=settings.stripe_api_base), None
    except AccountUnknownError as error:
        return stripe.of_key(key), error


async def _pin(settings: Settings, database: Database) -> bool:
    """Whether all is known; StartError if the database is another account's. May raise StoreUnavailableError."""
    account, unknown = await account_of(settings)
    owner = await postgres.pin(database, account)
    if not owner.may_be(account):
        raise StartError(_sentence(owner, account))
    return unknown is None


async def _pin_later(settings: Settings, database: Database) -> None:
    backoff = Backoff(first_seconds=1, longest_seconds=LONGEST_PAUSE_SECONDS)
    while True:
        await asyncio.sleep(backoff.next_seconds())
        try:
            if await _pin(settings, database):
                return
        except StoreUnavailableError:
            continue  # others tell it


def _sentence(owner: GatewayAccount, account: GatewayAccount) -> str:
    return (
        f"The database (DATABASE_URL) belongs to Stripe's {owner}, and STRIPE_API_KEY to {account}: "
        "set the two that belong together, or see payment-service move-account."
    )
