"""The console's settings: who may use it is never left open beyond this machine."""

from typing import Any

import pytest

from console.identity import Role
from console.settings import Settings
from console.users import user_line
from runtime.process_settings import InvalidSettingsError, load

DATABASE = "postgresql://u:p@127.0.0.1/payments"
USERS = user_line("asha", Role.OPERATOR, "a long password")
SECRET = "s" * 32


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AMQP_URL", "DATABASE_URL", "CONSOLE_AUTH", "CONSOLE_HOST", "CONSOLE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", DATABASE)


def loaded(monkeypatch: pytest.MonkeyPatch, **values: str) -> Any:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return load(Settings)


def refused(monkeypatch: pytest.MonkeyPatch, **values: str) -> list[str]:
    with pytest.raises(InvalidSettingsError) as raised:
        loaded(monkeypatch, **values)
    return [line.split()[0] for line in str(raised.value).splitlines()]


def test_on_this_machine_nobody_logs_in_unless_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch)
    assert (settings.console_auth, settings.console_host, settings.console_port) == ("none", "127.0.0.1", 8087)


@pytest.mark.parametrize("auth", [{}, {"CONSOLE_AUTH": "none"}, {"CONSOLE_AUTH": "NONE"}])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "console.example"])  # noqa: S104
def test_beyond_this_machine_a_mode_must_be_named(
    monkeypatch: pytest.MonkeyPatch, host: str, auth: dict[str, str]
) -> None:
    assert refused(monkeypatch, CONSOLE_HOST=host, **auth) == ["CONSOLE_AUTH"]


def test_each_mode_needs_what_it_knows_people_by(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, CONSOLE_AUTH="password") == ["CONSOLE_AUTH"]
    assert refused(monkeypatch, CONSOLE_AUTH="proxy") == ["CONSOLE_AUTH"]
    assert loaded(monkeypatch, CONSOLE_AUTH="proxy", CONSOLE_PROXY_SECRET=SECRET).console_auth == "proxy"
    assert loaded(monkeypatch, CONSOLE_AUTH="password", CONSOLE_USERS=USERS).console_auth == "password"


@pytest.mark.parametrize(
    "values",
    [
        {"CONSOLE_PROXY_SECRET": "short"},
        {"CONSOLE_USERS": "asha:operator:plain-text"},
        {"CONSOLE_USERS": USERS.replace("operator", "owner")},
        {"CONSOLE_USERS": f"{USERS}\n{USERS}"},
        {"CONSOLE_TRACE_URL": "javascript:alert({trace_id})"},
        {"CONSOLE_PORT": "0"},
        {"DATABASE_URL": "mysql://x"},
        {"AMQP_URL": "http://x"},
        {"AMQP_URL": "amqp://a:b@127.0.0.1:1,127.0.0.1:x/v"},
        {"DATABASE_URL": "postgresql://a:b@127.0.0.1:1,127.0.0.1:x/v"},
    ],
)
def test_a_wrong_value_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    [(name, value)] = values.items()
    with pytest.raises(InvalidSettingsError) as raised:
        loaded(monkeypatch, **values)
    assert str(raised.value).startswith(name)
    assert value not in str(raised.value) or value == "0"


def test_clusters_are_named_as_in_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(
        monkeypatch,
        AMQP_URL="amqp://a:b@127.0.0.1:1,[::1]:2/v",
        DATABASE_URL="postgres://a:b@127.0.0.1:1,127.0.0.1:2/v",
    )
    assert settings.amqp_url.get_secret_value().count(",") == settings.database_url.get_secret_value().count(",") == 1
