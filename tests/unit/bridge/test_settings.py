import json
from pathlib import Path

import pytest

from bridge.settings import InvalidSettingsError, Settings, load

NAMES = (*Settings.model_fields,)


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name.upper(), raising=False)


def problems() -> list[str]:
    with pytest.raises(InvalidSettingsError) as caught:
        load()
    return str(caught.value).splitlines()


def test_nothing_has_to_be_set() -> None:
    settings = load()
    assert (settings.bridge_host, settings.bridge_port) == ("127.0.0.1", 8085)
    assert (settings.bridge_timeout_seconds, settings.bridge_max_in_flight) == (10, 1000)
    assert settings.amqp_url.get_secret_value() == "amqp://guest:guest@127.0.0.1:5672/"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AMQP_URL", "http://broker"),
        ("AMQP_URL", "amqp://"),
        ("AMQP_URL", "amqp://broker:port/"),
        ("BRIDGE_PORT", "0"),
        ("BRIDGE_PORT", "65536"),
        ("BRIDGE_PORT", "http"),
        ("BRIDGE_TIMEOUT_SECONDS", "0"),
        ("BRIDGE_TIMEOUT_SECONDS", "61"),
        ("BRIDGE_TIMEOUT_SECONDS", "nan"),
        ("BRIDGE_MAX_IN_FLIGHT", "0"),
        ("BRIDGE_MAX_IN_FLIGHT", "1.5"),
        ("BRIDGE_MAX_HELD", "-1"),
        ("BRIDGE_AUTH", "none"),
        ("EUREKA_URL", "eureka:8761/eureka"),
        ("EUREKA_URL", "http://"),
        ("EUREKA_URL", "http://eureka:8761/eureka,"),
        ("EUREKA_URL", "http://eureka:port/"),
        ("EUREKA_URL", "http://canary@eureka/"),
        ("EUREKA_URL", "http://eu_reka:8761/eureka"),  # Java's own URLs know no underscore
        ("EUREKA_URL", "http://[::1]:8761/eureka"),  # nor the library an IPv6 address
        ("EUREKA_URL", "http://eureka:8761/eureka?x=1"),
        ("EUREKA_APP_NAME", "payment_service"),
        ("EUREKA_APP_NAME", "7"),
        ("INSTANCE_HOST", "http://payments"),
        ("INSTANCE_HOST", "payments:8085"),
        ("BRIDGE_DRAIN_SECONDS", "-1"),
        ("BRIDGE_DRAIN_SECONDS", "inf"),
        ("GIT_COMMIT", "HEAD"),
        ("BRIDGE_AUTH", "JWT,headers"),
        ("BRIDGE_CALLER_REQUESTS_PER_SECOND", "-1"),
        ("BRIDGE_CALLER_REQUESTS_PER_SECOND", "nan"),
        ("BRIDGE_CALLER_REQUESTS_PER_SECOND", "inf"),
        ("BRIDGE_CALLER_BURST", "0"),
        ("BRIDGE_BOOKING_CREATES_PER_MINUTE", "1.5"),
        ("PAYMENT_ENVIRONMENT", "staging"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_value_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert problems() == [f"{name} must be {Settings.model_fields[name.lower()].description}"]


def test_a_broker_beyond_this_machine_needs_a_user_of_its_own_and_tls_in_production(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S6, S23."""
    monkeypatch.setenv("AMQP_URL", "amqp://guest:secret@broker.example/?no_verify_ssl=1")
    monkeypatch.setenv("BRIDGE_PORT", "x")
    guest = "AMQP_URL must name a user of its own beyond this machine: guest is everybody's"
    check = "AMQP_URL must not choose whether RabbitMQ's certificate is checked: it always is"
    port = "BRIDGE_PORT must be a port from 1 to 65535"
    assert problems() == [guest, check, port]
    monkeypatch.setenv("PAYMENT_ENVIRONMENT", "production")
    plain = "AMQP_URL must begin with amqps:// beyond this machine in production"
    assert problems() == [guest, check, plain, port]


def test_all_problems_are_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "canary://secret:secret@")
    monkeypatch.setenv("BRIDGE_PORT", "x")
    monkeypatch.setenv("BRIDGE_HOST", "0.0.0.0")  # noqa: S104
    listed = problems()
    assert [line.split()[0] for line in listed] == ["AMQP_URL", "BRIDGE_PORT", "BRIDGE_AUTH"]
    assert "secret" not in " ".join(listed)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_headers_are_trusted_by_default(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("BRIDGE_HOST", host)
    assert load().bridge_host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "payments.example", "127.0.0.1.example"])  # noqa: S104
def test_beyond_loopback_the_mode_must_be_named(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("BRIDGE_HOST", host)
    assert [line.split()[0] for line in problems()] == ["BRIDGE_AUTH"]
    monkeypatch.setenv("BRIDGE_AUTH", "headers")
    assert load().bridge_host == host


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_PORT", "")
    assert load().bridge_port == 8085


def test_the_broker_password_is_not_in_the_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://user:canary@broker/")
    assert "canary" not in repr(load())


def test_without_eureka_there_are_no_peers_and_no_drain() -> None:
    assert (load().eureka_peers, load().drain_seconds, load().eureka_app_name) == ((), 0, "payment-service")


def test_with_eureka_the_drain_lasts_as_long_as_java_may_use_an_old_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EUREKA_URL", "http://eureka-1:8761/eureka/, https://10.0.0.7/eureka")
    assert load().eureka_peers == ("http://eureka-1:8761/eureka/", "https://10.0.0.7/eureka")
    assert load().drain_seconds == 95
    monkeypatch.setenv("BRIDGE_DRAIN_SECONDS", "0")
    assert load().drain_seconds == 0


@pytest.mark.parametrize("password", ["p$s:w@rd", "p%24s%3Aw%40rd"])
def test_eurekas_credentials_may_hold_any_letter_and_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("EUREKA_URL", f"http://spring:{password}@eureka:8761/eureka/")
    assert load().eureka_peers == ("http://spring:p%24s%3Aw%40rd@eureka:8761/eureka/",)
    assert password not in repr(load())


@pytest.mark.parametrize("host", ["10.0.0.5", "::1", "payments", "payments.internal.example"])
def test_the_instance_may_be_named(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("INSTANCE_HOST", host)
    assert load().instance_host == host


def test_there_is_no_rate_limit_unless_it_is_set() -> None:
    settings = load()
    assert (settings.bridge_caller_requests_per_second, settings.bridge_booking_creates_per_minute) == (0, 0)


# --- service tokens ---------------------------------------------------------------------------------------------------

# RFC 7517, appendix A.1
EC_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    "kid": "1",
}


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Everything that BRIDGE_AUTH=jwt needs, with the keys at an address."""
    monkeypatch.setenv("BRIDGE_AUTH", "jwt")
    monkeypatch.setenv("BRIDGE_JWT_JWKS", "https://identity.example/keys")
    monkeypatch.setenv("BRIDGE_JWT_ISSUER", "https://identity.example")
    monkeypatch.setenv("BRIDGE_JWT_AUDIENCE", "payment-service")
    return monkeypatch


def test_for_service_tokens_three_variables_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_AUTH", "jwt")
    monkeypatch.setenv("BRIDGE_PORT", "x")
    monkeypatch.setenv("BRIDGE_JWT_ISSUER", "")
    wrong = ["BRIDGE_PORT", "BRIDGE_JWT_JWKS", "BRIDGE_JWT_ISSUER", "BRIDGE_JWT_AUDIENCE"]
    assert [line.split()[0] for line in problems()] == wrong


def test_beyond_loopback_service_tokens_are_a_choice(tokens: pytest.MonkeyPatch) -> None:
    tokens.setenv("BRIDGE_HOST", "0.0.0.0")  # noqa: S104
    assert load().bridge_auth == "jwt"


@pytest.mark.parametrize(
    "url",
    [
        "https://identity.example/keys",
        "https://identity.example:8443/keys?a=b",
        "https://10.0.0.5/",
        "http://127.0.0.1:9000/keys",
        "http://localhost/keys",
        "http://[::1]:9000/keys",
    ],
)
def test_keys_may_come_from_an_address_that_nobody_can_forge(tokens: pytest.MonkeyPatch, url: str) -> None:
    tokens.setenv("BRIDGE_JWT_JWKS", url)
    assert load().bridge_jwt_jwks == url


@pytest.mark.parametrize(
    "url",
    [
        "http://identity.example/keys",
        "http://10.0.0.5/keys",
        "http://127.0.0.1.example/keys",
        "https://user:canary@identity.example/keys",
        "https://canary@identity.example/keys",
        "https:///keys",
        "https://identity.example:port/keys",
        "https://identity.example:0/keys",
        "https://identity..example/keys",
        "https://identity.example/a b",
        "https://identity.example/\u00e9",
        "https://identity.example/\r\nX-Canary:1",
        "file:///etc/keys.json",
        "ftp://identity.example/keys",
        "data://,canary",
    ],
)
def test_another_address_is_refused(tokens: pytest.MonkeyPatch, url: str) -> None:
    tokens.setenv("BRIDGE_JWT_JWKS", url)
    assert problems() == [f"BRIDGE_JWT_JWKS must be {Settings.model_fields['bridge_jwt_jwks'].description}"]


def test_a_file_with_a_key_is_enough(tokens: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [{"kty": "oct", "k": "AA", "kid": "0"}, EC_KEY]}))
    tokens.setenv("BRIDGE_JWT_JWKS", str(tmp_path / "keys.json"))
    assert load().bridge_jwt_jwks == str(tmp_path / "keys.json")


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "canary",
        "[]",
        "{}",
        json.dumps({"keys": []}),
        json.dumps({"keys": EC_KEY}),
        json.dumps({"keys": [EC_KEY | {"kid": None}]}),
        json.dumps({"keys": [EC_KEY | {"kid": ""}]}),
        json.dumps({"keys": [EC_KEY | {"x": "AA"}]}),
        json.dumps({"keys": [EC_KEY | {"use": "enc"}]}),
        json.dumps({"keys": [EC_KEY | {"key_ops": ["sign"]}]}),
        json.dumps({"keys": [EC_KEY | {"alg": "ES384"}]}),
        json.dumps({"keys": [EC_KEY | {"d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}]}),
        json.dumps({"keys": [{"kty": "oct", "k": "Y2FuYXJ5", "alg": "HS256", "kid": "1"}]}),
        json.dumps({"keys": [{"kty": "RSA", "n": "u1Kf" * 30 + "uQ", "e": "AQAB", "kid": "1"}]}),
        json.dumps({"keys": [EC_KEY]}) + " " * 70_000,
    ],
)
def test_a_file_without_a_usable_key_is_refused_at_the_start(
    tokens: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    """Missing, empty, strange, too large; keys that are private, shared, weak, for another use or without an id."""
    if content is not None:
        (tmp_path / "keys.json").write_text(content)
    tokens.setenv("BRIDGE_JWT_JWKS", str(tmp_path / "keys.json"))
    assert problems() == [f"BRIDGE_JWT_JWKS must be {Settings.model_fields['bridge_jwt_jwks'].description}"]
