import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest

from bridge.settings import Settings
from runtime.process_settings import InvalidSettingsError, load


def loaded(**variables: str) -> Settings:
    with patch.dict(os.environ, variables, clear=True):
        return load(Settings)


def problems(**variables: str) -> list[str]:
    with pytest.raises(InvalidSettingsError) as caught:
        loaded(**variables)
    return str(caught.value).splitlines()


def expected(*names: str, found: str = "is not valid") -> list[str]:
    return [f"{name} {found}; expected: {Settings.model_fields[name.lower()].description}" for name in names]


def test_nothing_has_to_be_set() -> None:
    settings = loaded(BRIDGE_PORT="")  # an empty variable is not set
    assert (settings.bridge_host, settings.bridge_port) == ("127.0.0.1", 8085)
    assert (settings.bridge_timeout_seconds, settings.bridge_max_in_flight) == (10, 1000)
    assert settings.amqp_url.get_secret_value() == "amqp://guest:guest@127.0.0.1:5672/"
    assert (settings.bridge_caller_requests_per_second, settings.bridge_booking_creates_per_minute) == (0, 0)
    assert (settings.eureka_peers, settings.drain_seconds, settings.eureka_app_name) == ((), 0, "payment-service")


WRONG = {
    "AMQP_URL": "http://broker amqp:/broker broker",
    "BRIDGE_PORT": "0 65536 http",
    "BRIDGE_TIMEOUT_SECONDS": "0 61 nan",
    "BRIDGE_MAX_IN_FLIGHT": "0 1.5",
    "BRIDGE_MAX_HELD": "-1",
    "BRIDGE_AUTH": "none JWT,headers",
    # Java's own URLs know no underscore, nor the library an IPv6 address
    "EUREKA_URL": "eureka:8761/eureka http:// http://eureka:8761/eureka, http://eureka:port/ http://canary@eureka/"
    " http://eu_reka:8761/eureka http://[::1]:8761/eureka http://eureka:8761/eureka?x=1",
    "EUREKA_APP_NAME": "payment_service 7",
    "INSTANCE_HOST": "http://payments payments:8085",
    "BRIDGE_DRAIN_SECONDS": "-1 inf",
    "GIT_COMMIT": "HEAD",
    "BRIDGE_CALLER_REQUESTS_PER_SECOND": "-1 nan inf",
    "BRIDGE_CALLER_BURST": "0",
    "BRIDGE_BOOKING_CREATES_PER_MINUTE": "1.5",
    "PAYMENT_ENVIRONMENT": "staging",
    "LOG_LEVEL": "loud",
    "LOG_FORMAT": "xml",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named_and_not_shown(name: str) -> None:
    for value in WRONG[name].split():
        assert problems(**{name: value}) == expected(name), value


def test_all_problems_are_listed_at_once() -> None:
    listed = problems(AMQP_URL="canary://secret:secret@", BRIDGE_PORT="x", BRIDGE_HOST="0.0.0.0")  # noqa: S104
    assert listed == [*expected("AMQP_URL", "BRIDGE_PORT"), *expected("BRIDGE_AUTH", found="is not set")]


def test_a_broker_beyond_this_machine_needs_a_user_of_its_own_and_tls_in_production() -> None:
    """S6, S23."""
    wrong = {"AMQP_URL": "amqp://guest:secret@broker.example/?no_verify_ssl=1", "BRIDGE_PORT": "x"}
    guest = "AMQP_URL must name a user of its own beyond this machine: guest is everybody's"
    check = "AMQP_URL must not choose whether RabbitMQ's certificate is checked: it always is"
    assert problems(**wrong) == [guest, check, *expected("BRIDGE_PORT")]
    plain = "AMQP_URL must begin with amqps:// beyond this machine in production"
    assert problems(**wrong, PAYMENT_ENVIRONMENT="production") == [guest, check, plain, *expected("BRIDGE_PORT")]


def test_headers_are_trusted_by_default_on_loopback_alone() -> None:
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert loaded(BRIDGE_HOST=host).bridge_host == host
    for host in ("0.0.0.0", "::", "10.0.0.5", "payments.example", "127.0.0.1.example"):  # noqa: S104
        assert problems(BRIDGE_HOST=host) == expected("BRIDGE_AUTH", found="is not set")
        assert loaded(BRIDGE_HOST=host, BRIDGE_AUTH="headers").bridge_host == host


def test_no_password_is_in_the_representation() -> None:
    assert "canary" not in repr(loaded(AMQP_URL="amqp://user:canary@broker/", EUREKA_URL="http://u:canary@eureka/"))


def test_with_eureka_the_drain_lasts_as_long_as_java_may_use_an_old_list() -> None:
    eureka = {"EUREKA_URL": "http://eureka-1:8761/eureka/, https://10.0.0.7/eureka"}
    assert loaded(**eureka).eureka_peers == ("http://eureka-1:8761/eureka/", "https://10.0.0.7/eureka")
    assert loaded(**eureka).drain_seconds == 95
    assert loaded(**eureka, BRIDGE_DRAIN_SECONDS="0").drain_seconds == 0


def test_eurekas_credentials_may_hold_any_letter_and_the_instance_may_be_named() -> None:
    for password in ("p$s:w@rd", "p%24s%3Aw%40rd"):
        settings = loaded(EUREKA_URL=f"http://spring:{password}@eureka:8761/eureka/")
        assert settings.eureka_peers == ("http://spring:p%24s%3Aw%40rd@eureka:8761/eureka/",)
    for host in ("10.0.0.5", "::1", "payments", "payments.internal.example"):
        assert loaded(INSTANCE_HOST=host).instance_host == host


# --- service tokens ---------------------------------------------------------------------------------------------------

TOKENS = {
    "BRIDGE_AUTH": "jwt",
    "BRIDGE_JWT_JWKS": "https://identity.example/keys",
    "BRIDGE_JWT_ISSUER": "https://identity.example",
    "BRIDGE_JWT_AUDIENCE": "payment-service",
}
# RFC 7517, appendix A.1
EC_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    "kid": "1",
}


def test_for_service_tokens_three_variables_are_needed() -> None:
    wrong = ["BRIDGE_PORT", "BRIDGE_JWT_JWKS", "BRIDGE_JWT_ISSUER", "BRIDGE_JWT_AUDIENCE"]
    assert problems(BRIDGE_AUTH="jwt", BRIDGE_PORT="x", BRIDGE_JWT_ISSUER="") == expected(*wrong)
    assert loaded(**TOKENS, BRIDGE_HOST="0.0.0.0").bridge_auth == "jwt"  # noqa: S104


def test_keys_come_from_a_url_that_nobody_can_forge() -> None:
    safe = "https://identity.example/keys https://identity.example:8443/keys?a=b https://10.0.0.5/"
    for url in f"{safe} http://127.0.0.1:9000/keys http://localhost/keys http://[::1]:9000/keys".split():
        assert loaded(**TOKENS | {"BRIDGE_JWT_JWKS": url}).bridge_jwt_jwks == url


@pytest.mark.parametrize(
    "url",
    [
        *"http://identity.example/keys http://10.0.0.5/keys http://127.0.0.1.example/keys https:///keys".split(),
        *"https://user:canary@identity.example/keys https://canary@identity.example/keys data://,canary".split(),
        *"https://identity.example:port/keys https://identity.example:0/keys https://identity..example/keys".split(),
        *("https://identity.example/a b", "https://identity.example/\u00e9", "https://identity.example/\r\nX-Canary:1"),
        *"file:///etc/keys.json ftp://identity.example/keys".split(),
    ],
)
def test_another_url_is_refused(url: str) -> None:
    assert problems(**TOKENS | {"BRIDGE_JWT_JWKS": url}) == expected("BRIDGE_JWT_JWKS")


def test_a_file_with_a_key_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [{"kty": "oct", "k": "AA", "kid": "0"}, EC_KEY]}))
    assert loaded(**TOKENS | {"BRIDGE_JWT_JWKS": str(path)}).bridge_jwt_jwks == str(path)


WRONG_MEMBERS: list[dict[str, object]] = [
    {"kid": None},
    {"kid": ""},
    {"x": "AA"},
    {"use": "enc"},
    {"key_ops": ["sign"]},
    {"alg": "ES384"},
    {"d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"},
]
UNUSABLE: list[object] = [
    *([], {}, {"keys": []}, {"keys": EC_KEY}, {"keys": [None, 7, {}, {"kty": "EC", "kid": "a"}, {"kid": []}]}),
    *({"keys": [EC_KEY | members]} for members in WRONG_MEMBERS),
    {"keys": [{"kty": "oct", "k": "Y2FuYXJ5", "alg": "HS256", "kid": "1"}]},
    {"keys": [{"kty": "RSA", "n": "u1Kf" * 30 + "uQ", "e": "AQAB", "kid": "1"}]},
]


@pytest.mark.parametrize(
    "content",
    [None, "", "canary", "[" * 60_000, json.dumps({"keys": [EC_KEY]}) + " " * 70_000, *map(json.dumps, UNUSABLE)],
)
def test_a_file_without_a_usable_key_is_refused_at_the_start(tmp_path: Path, content: str | None) -> None:
    """Missing, empty, strange, too large; keys that are private, shared, weak, for another use or without an id."""
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    assert problems(**TOKENS | {"BRIDGE_JWT_JWKS": str(path)}) == expected("BRIDGE_JWT_JWKS")
