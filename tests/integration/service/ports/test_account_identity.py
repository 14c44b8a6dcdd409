"""Which account a key belongs to, as Stripe says it or lets it be seen."""

import json

import pytest

from service.adapters.stripe import AccountUnknownError, account_of
from service.domain.gateway_account import GatewayAccount
from tests.kit.service import ScriptedServer

REFUSAL = "The provided key 'rk_test_*' does not have the required permissions for this endpoint"


@pytest.mark.parametrize(
    ("status", "body", "identity"),
    [
        (200, {"id": "acct_1A", "object": "account"}, "acct_1A"),
        (
            403,
            {"error": {"message": f"{REFUSAL} on account 'acct_1A'. Having the 'rak_x' permission would"}},
            "acct_1A",
        ),
        (403, {"error": {"message": f"{REFUSAL}."}}, None),
    ],
)
async def test_the_account_of_a_key_is_what_stripe_says_or_the_name_in_its_refusal(
    script: ScriptedServer, status: int, body: object, identity: str | None
) -> None:
    script.will(status, json.dumps(body).encode())
    account = await account_of("rk_test_restricted", api_base=script.url)
    assert account == GatewayAccount(livemode=False, id=identity)


@pytest.mark.parametrize(
    ("status", "body"),
    [(401, b"{}"), (404, b"{}"), (429, b"{}"), (500, b"oops"), (200, b"<html>"), (200, b'{"id": 7}')],
)
async def test_whatever_else_stripe_answers_says_nothing_of_the_account(
    script: ScriptedServer, status: int, body: bytes
) -> None:
    script.will(status, body)
    with pytest.raises(AccountUnknownError):
        await account_of("sk_test_anything", api_base=script.url)
    with pytest.raises(AccountUnknownError):
        await account_of("sk_test_anything", api_base="http://127.0.0.1:1")
