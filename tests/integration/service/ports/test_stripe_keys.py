"""S13, S14: the key goes to Stripe alone, and the log names the permission that a restricted key lacks."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.domain.outcomes import Unknown, UnknownCause
from tests.integration.service.ports.test_gateway import SECONDS, a_gateway, a_new_payment, cause
from tests.kit.service import ScriptedServer, a_payment, scripted_server
from tests.kit.tls import terminated, write_certificate

KEY = "rk_test_restrictedSecret"
PAYMENT = a_payment()


async def test_a_permission_that_a_restricted_key_lacks_is_named_to_the_operator_without_the_key(
    script: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """S14 Nothing is failed, whichever call is refused, and the log says what is missing."""
    message = (
        f"The provided key '{KEY[:8]}{'*' * 12}{KEY[-6:]}' does not have the required permissions for this endpoint on"
        " account 'acct_1A'. Having the 'rak_checkout_session_write' permission would allow this request to continue."
    )
    script.will(
        403, json.dumps({"error": {"type": "invalid_request_error", "message": message}}).encode(), Request_Id="req_7"
    )
    async with a_gateway(script.url, api_key=KEY) as gateway:
        outcomes = [
            await gateway.open(a_new_payment(gateway), timeout_seconds=SECONDS),
            *[await ask(PAYMENT, timeout_seconds=SECONDS) for ask in (gateway.look_up, gateway.find, gateway.expire)],
        ]
    detail = "PermissionError: status 403, missing permission rak_checkout_session_write, request req_7"
    assert outcomes == [Unknown(cause=UnknownCause.DENIED, detail=detail)] * 4
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [f"Stripe refuses STRIPE_API_KEY ({detail}): set one that it accepts, and restart"] * 4
    assert KEY[-6:] not in caplog.text
    assert "acct_" not in caplog.text


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"])
async def test_the_key_takes_no_way_round_by_a_proxy_of_the_environment(
    script: ScriptedServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """S13 A proxy that is set for other programs does not see the key."""
    async with scripted_server() as proxy:
        monkeypatch.setenv(name, proxy.url)
        for server in (proxy, script):
            server.will(401, b"{}")
        async with a_gateway(script.url, api_key=KEY) as gateway:
            await gateway.look_up(PAYMENT, timeout_seconds=SECONDS)
    assert proxy.requests == []
    assert [headers["authorization"] for _, _, headers in script.requests] == [f"Bearer {KEY}"]


async def test_the_key_is_not_shown_to_a_server_that_cannot_prove_who_it_is(
    script: ScriptedServer, tmp_path: Path
) -> None:
    """S13 TLS is verified: a certificate that nobody vouches for ends the call before a byte of it is sent."""
    script.will(200, b"{}")
    write_certificate(tmp_path)
    async with (
        terminated(urlsplit(script.url).port or 0, tmp_path) as port,
        a_gateway(f"https://127.0.0.1:{port}", api_key=KEY) as gateway,
    ):
        assert cause(await gateway.look_up(PAYMENT, timeout_seconds=SECONDS)) is UnknownCause.FAILED
    assert script.requests == []
