"""S13, S14: the key goes to Stripe alone, and a restricted one that may too little is told to the operator."""

import asyncio
import json
import ssl

import pytest
import trustme

from service.adapters.stripe import StripeGateway
from service.domain.outcomes import Unknown, UnknownCause
from tests.integration.service.ports.test_gateway import SECONDS, a_new_payment
from tests.service_support import ScriptedServer, a_payment, scripted_server

KEY = "rk_test_restrictedSecret"
PAYMENT = a_payment()


async def test_a_permission_that_a_restricted_key_lacks_is_named_to_the_operator_without_the_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S14 Nothing is failed, whichever call is refused, and the log says what is missing."""
    told = (
        f"The provided key '{KEY[:8]}{'*' * 12}{KEY[-6:]}' does not have the required permissions for this endpoint on"
        " account 'acct_1A'. Having the 'rak_checkout_session_write' permission would allow this request to continue."
    )
    body = json.dumps({"error": {"type": "invalid_request_error", "message": told}}).encode()
    async with scripted_server() as script:
        script.will(403, body, Request_Id="req_7")
        gateway = StripeGateway(api_key=KEY, api_base=script.url, concurrency=1)
        outcomes = [
            await gateway.open(a_new_payment(gateway), timeout_seconds=SECONDS),
            await gateway.look_up(PAYMENT, timeout_seconds=SECONDS),
            await gateway.find(PAYMENT, timeout_seconds=SECONDS),
            await gateway.expire(PAYMENT, timeout_seconds=SECONDS),
        ]
        await gateway.close()
    detail = "PermissionError: status 403, missing permission rak_checkout_session_write, request req_7"
    assert outcomes == [Unknown(cause=UnknownCause.DENIED, detail=detail)] * 4
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [f"Stripe refuses STRIPE_API_KEY ({detail}): set one that it accepts, and restart"] * 4
    assert KEY[-6:] not in caplog.text
    assert "acct_" not in caplog.text


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"])
async def test_the_key_takes_no_way_round_by_a_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """S13 Whoever may set a proxy for other programs does not get to see the key."""
    async with scripted_server() as proxy, scripted_server() as stripe:
        monkeypatch.setenv(name, proxy.url)
        for server in (proxy, stripe):
            server.will(401, b"{}")
        gateway = StripeGateway(api_key=KEY, api_base=stripe.url, concurrency=1)
        await gateway.look_up(PAYMENT, timeout_seconds=SECONDS)
        await gateway.close()
    assert proxy.requests == []
    assert [headers["authorization"] for _, _, headers in stripe.requests] == [f"Bearer {KEY}"]


async def test_the_key_is_not_shown_to_a_server_that_cannot_prove_who_it_is() -> None:
    """S13 TLS is verified: a certificate that nobody vouches for ends the call before a byte of it is sent."""
    script = ScriptedServer()
    script.will(200, b"{}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        gateway = StripeGateway(api_key=KEY, api_base=f"https://127.0.0.1:{port}", concurrency=1)
        outcome = await gateway.look_up(PAYMENT, timeout_seconds=SECONDS)
        await gateway.close()
    assert isinstance(outcome, Unknown)
    assert outcome.cause is UnknownCause.FAILED
    assert script.requests == []
