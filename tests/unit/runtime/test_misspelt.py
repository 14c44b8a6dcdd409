"""A misspelt variable of ours is noticed, and what belongs to others is left alone."""

import pytest

from bridge.settings import Settings as BridgeSettings
from runtime import misspelt
from service.settings import MigrateSettings, Settings

MEANT = {
    "PAYMENT_WINDOW_SECOND": "PAYMENT_WINDOW_SECONDS",
    "STRIPE_API_KEYS": "STRIPE_API_KEY",
    "STRIPE_APIKEY": "STRIPE_API_KEY",
    "DATABASE_URL_FILES": "DATABASE_URL_FILE",
    "PAYMENT_SUCESS_URL": "PAYMENT_SUCCESS_URL",
    "payment_currrency": "PAYMENT_CURRENCY",
    "MIGRATION_DATABSE_URL": "MIGRATION_DATABASE_URL",
}
STRANGERS = (
    *("STRIPE_WEBHOOK_SECRET", "STRIPE_DEVICE_NAME", "STRIPE_SECRET_KEY", "DATABASE_USER", "DATABASE_HOST", "LOG_FILE"),
    *("PAYMENT_SERVICE_SERVICE_HOST", "PAYMENT_SERVICE_PORT_8086_TCP_ADDR", "SERVICE_NAME", "HOSTNAME", "PATH", "HOME"),
    *("PAYMENT_SERVICE_SERVICE_PORT", "BRIDGE_URL", "AMQP_URL2", "OTEL_SERVICE_NAME", "GIT_BRANCH", "PYTHONPATH", ""),
)


@pytest.mark.parametrize(("given", "meant"), MEANT.items())
def test_a_letter_too_few_or_too_many_is_noticed(given: str, meant: str) -> None:
    assert misspelt.variables(Settings, MigrateSettings, environment={given: ""}) == {given: meant}


def test_strangers_variables_and_our_own_are_left_alone() -> None:
    environment = dict.fromkeys((*STRANGERS, "STRIPE_API_KEY", "stripe_api_key", "STRIPE_API_KEY_FILE"), "")
    assert misspelt.variables(Settings, MigrateSettings, environment=environment) == {}


def test_one_half_takes_no_variable_of_the_other_for_a_misspelt_one() -> None:
    """One file of variables may serve both processes."""
    for mine, other in ((Settings, BridgeSettings), (BridgeSettings, Settings)):
        names = dict.fromkeys((name.upper() for name in other.model_fields), "")
        assert misspelt.variables(mine, environment=names) == {}
