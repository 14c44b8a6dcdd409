"""Secrets of both processes from files: what a file may hold, and every problem at once without a value."""

import os
from pathlib import Path
from unittest.mock import patch

import pytest

from bridge import settings as bridge_settings
from console import settings as console_settings
from runtime import secret_files
from runtime.process_settings import InvalidSettingsError, load
from service import settings as service_settings

DATABASE = "postgresql://payments:fileSecret@127.0.0.1/payments"
KEY = "sk_test_fileSecret"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The two required secrets of the service, as files whose last line ends."""
    held = {"DATABASE_URL": DATABASE, "STRIPE_API_KEY": KEY}
    for name, text in held.items():
        (tmp_path / name).write_text(f"{text}\n")
    return {f"{name}_FILE": str(tmp_path / name) for name in held}


def test_every_secret_of_both_processes_may_come_from_a_file(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "broker").write_text("amqp://payment-service:x@broker.example/payments\r\n")
    with patch.dict(os.environ, files | {"AMQP_URL_FILE": str(tmp_path / "broker")}, clear=True):
        service = load(service_settings.Settings)
        bridge = load(bridge_settings.Settings)
    assert service.database_url.get_secret_value() == DATABASE
    assert service.stripe_api_key.get_secret_value() == KEY
    assert service.amqp_user == "payment-service"
    assert bridge.amqp_url == service.amqp_url


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (service_settings.Settings, {"amqp_url", "database_url", "database_listen_url", "stripe_api_key"}),
        (service_settings.MigrateSettings, {"database_url", "migration_database_url"}),
        (bridge_settings.Settings, {"amqp_url", "eureka_url"}),
        (console_settings.Settings, {"amqp_url", "database_url", "console_users", "console_proxy_secret"}),
    ],
)
def test_what_is_secret_is_known_by_its_type(
    model: type[service_settings.Settings], names: set[str], tmp_path: Path
) -> None:
    """A new secret of these settings needs a row in docs/reference.md."""
    missing = {f"{name.upper()}_FILE": str(tmp_path / "missing") for name in model.model_fields}
    with patch.dict(os.environ, missing, clear=True):
        assert secret_files.read(model).problems.keys() == names


def test_problems_of_files_and_of_values_are_told_at_once(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "STRIPE_API_KEY").write_bytes(b"\xff\xfe shown")
    wrong = files | {"DATABASE_URL": DATABASE, "AMQP_URL_FILE": str(tmp_path), "LOG_LEVEL": "loud"}
    with patch.dict(os.environ, wrong, clear=True), pytest.raises(InvalidSettingsError) as service:
        load(service_settings.Settings)
    with patch.dict(os.environ, wrong, clear=True), pytest.raises(InvalidSettingsError) as bridge:
        load(bridge_settings.Settings)
    assert sorted(str(service.value).splitlines()) == [
        "AMQP_URL_FILE names a file that cannot be read",
        "DATABASE_URL and DATABASE_URL_FILE are both set: only one of them may be",
        "LOG_LEVEL is not valid; expected: debug, info, warning or error",
        "STRIPE_API_KEY_FILE names a file that cannot be read",
    ]
    assert str(bridge.value).splitlines() == [
        "AMQP_URL_FILE names a file that cannot be read",
        "LOG_LEVEL is not valid; expected: debug, info, warning or error",
    ]


def test_a_wrong_value_in_a_file_is_named_and_not_shown(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "STRIPE_API_KEY").write_text("")
    (tmp_path / "DATABASE_URL").write_text("mysql://shown@host/name")
    with patch.dict(os.environ, files, clear=True), pytest.raises(InvalidSettingsError) as problems:
        load(service_settings.Settings)
    told = str(problems.value).splitlines()
    assert [line.partition(";")[0] for line in told] == ["DATABASE_URL is not valid", "STRIPE_API_KEY is not valid"]
    assert "shown" not in str(problems.value)


def test_an_empty_variable_is_no_second_value(files: dict[str, str]) -> None:
    """A compose file sets a variable that nobody gave to nothing."""
    with patch.dict(os.environ, files | {"STRIPE_API_KEY": "", "AMQP_URL_FILE": ""}, clear=True):
        assert load(service_settings.Settings).stripe_api_key.get_secret_value() == KEY
