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
        ("BRIDGE_AUTH", "none"),
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
