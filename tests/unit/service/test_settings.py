"""Settings: every problem at once, no value shown, keys sent to nobody but Stripe."""

import os
from typing import Any
from unittest.mock import patch

import pytest
from pydantic import SecretStr

from runtime.process_settings import BrokerSettings, DatabaseSettings, InvalidSettingsError, load
from service.failpoints import FailPoint
from service.settings import STRIPE_API_BASE, MigrateSettings, OperatorSettings, Settings

GOOD = {
    "DATABASE_URL": "postgresql://payments:databaseSecret@db.example:5432/payments",
    "STRIPE_API_KEY": "sk_test_stripeSecret",
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings.model_fields, *MigrateSettings.model_fields):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)


def loaded(model: type[Any] = Settings, **environment: str) -> Any:
    with patch.dict(os.environ, GOOD | environment):
        return load(model)


def refused(model: type[Any] = Settings, **environment: str) -> str:
    with pytest.raises(InvalidSettingsError) as problems:
        loaded(model, **environment)
    return str(problems.value)


def test_two_variables_are_enough() -> None:
    settings = loaded()
    assert settings.amqp_url.get_secret_value() == "amqp://guest:guest@127.0.0.1:5672/"
    assert settings.stripe_api_base == STRIPE_API_BASE
    assert settings.payment_currency == "inr"
    assert (settings.payment_window_seconds, settings.verify_freshness_seconds) == (900, 1)
    assert (settings.payment_reuse_seconds, settings.outbox_retention_days) == (60, 7)
    assert (settings.service_host, settings.service_port) == ("127.0.0.1", 8086)
    assert (settings.stripe_concurrency, settings.log_level) == (64, "info")
    assert settings.origins == {"http://127.0.0.1:8084"}
    assert loaded(STRIPE_API_KEYS="x", PAYMENT="y") == settings, "strangers do no harm"


def test_what_is_missing_is_listed_at_once() -> None:
    with pytest.raises(InvalidSettingsError) as problems:
        load(Settings)
    assert str(problems.value).splitlines() == [
        "DATABASE_URL is not set; expected: postgresql://user:password@host:port/name",
        (
            "STRIPE_API_KEY is not set; expected: a secret or restricted key of Stripe: "
            "sk_test_, rk_test_, sk_live_ or rk_live_ and what follows"
        ),
    ]


WRONG = {
    "PAYMENT_ENVIRONMENT": ["staging", "Production", ""],
    "AMQP_URL": ["http://shown.example/", "amqp:/shown", "shown", ""],
    "COMMAND_USERS": ["", ",", "payment-bridge,", " , shown"],
    "DATABASE_URL": [
        "",
        *"mysql://shown@host/name sqlite:///shown postgresql://".split(),
        *"shown postgresql+psycopg://shown@host/name postgresql://u:shown@host:port/name".split(),
        *"postgresql://u:shown@host,/name postgresql:///shown?host=a,b&port=1,2,3".split(),
    ],
    "STRIPE_API_KEY": [
        "",
        "sk_test_shown shown",
        "sk_test_shownshown\n",
        " sk_test_shownshown",
        *"pk_test_shownshown sk_test_".split(),
        *"sk_prod_shownshown whsec_shownshown".split(),
    ],
    "STRIPE_API_BASE": [
        "",
        *"http://shown.example ftp://127.0.0.1 shown https://".split(),
        *"http://localhost.shown.example http://127.0.0.1@shown.example https:shown.example https:///shown".split(),
    ],
    "STRIPE_API_PLAIN_TEXT_HOST": ["", "http://shown.example", "shown:12111", "shown/", "Shown", "shown."],
    "STRIPE_CONCURRENCY": ["0", "2001", "many", "-1", ""],
    "STRIPE_REQUESTS_PER_SECOND": ["-1", "10001", "nan", "inf", "many", ""],
    "STRIPE_GLOBAL_REQUESTS_PER_SECOND": ["-1", "10001", "nan", "inf", "many", ""],
    "RECONCILE_ON_START": ["yes", "Auto", ""],
    "RECONCILE_INTERVAL_SECONDS": ["-1", "86401", "1h", "nan", ""],
    "PAYMENT_BILLING_ADDRESS": ["always", "Required", ""],
    "PAYMENT_DESCRIPTION": ["", " shown", "shown\nshown", "sh\u00f6wn", "shown" * 41],
    "PAYMENT_CURRENCY": ["INR", "xxx", "", "rupees"],
    "PAYMENT_SUCCESS_URL": ["shown", "/shown", "//shown.example", "javascript:shown", "https://shown.example\\", ""],
    "PAYMENT_CANCEL_URL": ["shown", "ftp://shown.example", "https://user@shown.example/"],
    "PAYMENT_URL_ORIGINS": ["", ",", "https://shown.example,", "shown.example", "*", "https://*.shown.example"],
    "PAYMENT_WINDOW_SECONDS": ["59", "82801", "15m", "nan", "inf", "900.5"],
    "PAYMENT_REUSE_SECONDS": ["-1", "82801", "1m", "nan", "inf", "60.5"],
    "OUTBOX_RETENTION_DAYS": ["0", "-1", "3651", "7.5", "week", ""],
    "VERIFY_FRESHNESS_SECONDS": ["-1", "61", "nan", "inf", "often"],
    "SERVICE_HOST": [""],
    "SERVICE_PORT": ["-1", "65536", "http", "80.5"],
    "FAILPOINT": ["", *"shown:1 not-acked not-acked: not-acked:0 not-acked:-1 not-acked:x NOT_ACKED:1".split()],
    "GIT_COMMIT": ["shown", "abcdef", "90B07FF", "90b07ff\n"],
    "LOG_LEVEL": ["loud", ""],
    "LOG_FORMAT": ["xml"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_by_name_and_not_shown(name: str, value: str) -> None:
    told = refused(**{name: value})
    assert told.startswith(f"{name} is not valid; expected: ")
    assert "\n" not in told
    assert "shown" not in told


def test_all_problems_are_listed_together_and_no_value_is_shown() -> None:
    told = refused(**{name: values[0] for name, values in WRONG.items()})
    assert sorted(line.split(" ")[0] for line in told.splitlines()) == sorted(WRONG)
    assert "shown" not in told


LIVE, TEST = "sk_live_abcdefgh", "sk_test_abcdefgh"
LIVE_KEYS, TEST_KEYS = [LIVE, "rk_live_abcdefgh"], [TEST, "rk_test_abcdefgh"]
PRODUCTION = {"PAYMENT_ENVIRONMENT": "production", "DATABASE_URL": "postgresql://payments@127.0.0.1/payments"}
LOOPBACK = "http://127.0.0.1:12111"
ACCEPTED = [
    {"DATABASE_URL": "postgresql+asyncpg://u:p@h:5432/n"},
    {"DATABASE_URL": "postgres://h/n"},
    {"DATABASE_URL": "postgresql://?host=/run/postgresql"},
    {"DATABASE_URL": "postgresql+asyncpg://u:p@h1:5432,h2:5432/n"},
    {"DATABASE_URL": "postgres://h1,[::1]:5433/n"},
    {"DATABASE_URL": "postgresql:///n?host=h1,h2&port=5432,5433"},
    *({"STRIPE_API_KEY": key} for key in TEST_KEYS),
    *({"STRIPE_API_KEY": key, **PRODUCTION} for key in LIVE_KEYS),
    *({"STRIPE_API_BASE": base} for base in (LOOPBACK, "http://localhost:1", "http://[::1]:1", "https://mock.example")),
    *({"FAILPOINT": f"{point}:2", "STRIPE_API_BASE": LOOPBACK} for point in FailPoint),
    {"FAILPOINT": "not-acked:2", "STRIPE_API_BASE": "https://localhost"},
]


@pytest.mark.parametrize("environment", ACCEPTED, ids=str)
def test_these_are_accepted(environment: dict[str, str]) -> None:
    settings = loaded(**environment)
    for name, value in environment.items():
        found = getattr(settings, name.lower())
        assert (found.get_secret_value() if isinstance(found, SecretStr) else found) == value


IS_LIVE = "STRIPE_API_KEY is a live key, which moves real money: only with PAYMENT_ENVIRONMENT=production"
IS_TEST = "STRIPE_API_KEY is a test key, with which nobody pays: not with PAYMENT_ENVIRONMENT=production"
GOES_ASTRAY = "STRIPE_API_BASE must not be set with a live key: it would be sent to somebody else"
KILLS = "FAILPOINT kills the service: only with a test key and STRIPE_API_BASE on this machine"


BASES = [LOOPBACK, "https://mock.example"]
ASTRAY = [*BASES, "https://api.stripe.com.evil.example", f"{STRIPE_API_BASE}/"]
FAR = [STRIPE_API_BASE, f"{STRIPE_API_BASE}/", "https://API.stripe.com:443", "https://mock.example"]
ARMED = {"FAILPOINT": "not-acked:1"}
HARMFUL: list[tuple[dict[str, str], list[str]]] = [
    *(({"STRIPE_API_KEY": key}, [IS_LIVE]) for key in LIVE_KEYS),
    *(({"STRIPE_API_KEY": key, "PAYMENT_ENVIRONMENT": "development"}, [IS_LIVE]) for key in LIVE_KEYS),
    *(
        ({"STRIPE_API_KEY": key, "STRIPE_API_BASE": base, **PRODUCTION}, [IS_TEST])
        for key in TEST_KEYS
        for base in (STRIPE_API_BASE, *BASES)
    ),
    *(
        ({"STRIPE_API_KEY": key, "STRIPE_API_BASE": base, **PRODUCTION}, [GOES_ASTRAY])
        for key in LIVE_KEYS
        for base in ASTRAY
    ),
    (ARMED, [KILLS]),
    *((ARMED | {"STRIPE_API_BASE": base}, [KILLS]) for base in FAR),
    *((ARMED | {"STRIPE_API_KEY": key, **PRODUCTION}, [KILLS]) for key in LIVE_KEYS),
    *((ARMED | {"STRIPE_API_KEY": LIVE, "STRIPE_API_BASE": base}, [GOES_ASTRAY, IS_LIVE, KILLS]) for base in BASES),
]


@pytest.mark.parametrize(("environment", "problems"), HARMFUL, ids=str)
def test_keys_and_fail_points_are_refused_where_they_could_do_harm(
    environment: dict[str, str], problems: list[str]
) -> None:
    """S13, S14: real money is moved in production alone, no ticket is for play money, live keys are Stripe's."""
    assert refused(**environment).splitlines() == problems


@pytest.mark.parametrize(
    ("environment", "everything"),
    [
        ({}, 20),
        ({"STRIPE_API_BASE": LOOPBACK}, 80),
        ({"STRIPE_API_KEY": LIVE, **PRODUCTION}, 80),
        ({"STRIPE_GLOBAL_REQUESTS_PER_SECOND": "7.5"}, 7.5),
        ({"STRIPE_GLOBAL_REQUESTS_PER_SECOND": "0"}, 0),
    ],
)
def test_the_rate_of_calls_is_what_stripe_allows_the_account(environment: dict[str, str], everything: float) -> None:
    settings = loaded(**environment)
    assert (settings.stripe_requests_per_second, settings.global_requests_per_second) == (20, everything)


def test_secrets_stay_out_of_what_is_printed() -> None:
    printed = repr(loaded(AMQP_URL="amqp://u:amqpSecret@h/"))
    assert "Secret" not in printed.replace("SecretStr", "")


def test_origins_are_those_named_else_those_of_the_two_pages() -> None:
    pages = {"PAYMENT_SUCCESS_URL": "https://a.example/x", "PAYMENT_CANCEL_URL": "http://b.example:81/y"}
    assert loaded(**pages).origins == {"https://a.example:443", "http://b.example:81"}
    named = loaded(**pages, PAYMENT_URL_ORIGINS="https://C.example, https://d.example:8443")
    assert named.origins == {"https://c.example:443", "https://d.example:8443"}


GUEST = "AMQP_URL must name a user of its own beyond this machine: guest is everybody's"
PLAIN_AMQP = "AMQP_URL must begin with amqps:// beyond this machine in production"
PLAIN_DATABASE = "DATABASE_URL must have sslmode=verify-full beyond this machine in production"


def test_guest_and_plain_text_do_not_leave_this_machine_in_production() -> None:
    """S6, S23: every problem at once, and in development plain text is only told."""
    far = "amqp://guest:guest@broker.example/"
    assert refused(AMQP_URL=far) == GUEST
    told = refused(AMQP_URL=far, PAYMENT_ENVIRONMENT="production", SERVICE_PORT="http")
    assert told.splitlines()[:3] == [GUEST, PLAIN_AMQP, PLAIN_DATABASE]
    assert told.splitlines()[3].startswith("SERVICE_PORT is not valid")
    far = "amqp://payment-service:amqpSecret@broker.example/payments"
    settings = loaded(AMQP_URL=far, PAYMENT_ENVIRONMENT="development")
    assert settings.in_plain_text == ("AMQP_URL", "DATABASE_URL")
    assert loaded(AMQP_URL="amqp://127.0.0.1/").in_plain_text == ("DATABASE_URL",)


@pytest.mark.parametrize(
    ("model", "problems"),
    [
        (DatabaseSettings, {PLAIN_DATABASE}),
        (MigrateSettings, {PLAIN_DATABASE, f"MIGRATION_{PLAIN_DATABASE}"}),
        (BrokerSettings, {PLAIN_AMQP}),
        (OperatorSettings, {PLAIN_AMQP, PLAIN_DATABASE}),
    ],
)
def test_the_commands_of_an_operator_are_held_to_it_too(model: type[Any], problems: set[str]) -> None:
    url = "amqp://payment-operator:x@broker.example/payments"
    found = refused(model, AMQP_URL=url, MIGRATION_DATABASE_URL=GOOD["DATABASE_URL"], PAYMENT_ENVIRONMENT="production")
    assert set(found.splitlines()) == problems


def test_a_sandbox_elsewhere_is_named_by_its_host_and_gets_test_keys_only() -> None:
    """In containers the sandbox is another host, and has no certificate."""
    sandbox = {"STRIPE_API_BASE": "http://sandbox:12111", "STRIPE_API_PLAIN_TEXT_HOST": "sandbox"}
    settings = loaded(**sandbox)
    assert settings.stripe_api_base == "http://sandbox:12111"
    assert settings.in_plain_text == ("DATABASE_URL", "STRIPE_API_BASE")
    for base in ("http://sandbox.example", "http://sandbox@shown.example", "http://shown.example/sandbox"):
        assert refused(**sandbox | {"STRIPE_API_BASE": base}).startswith("STRIPE_API_BASE is not valid"), base
    live = {
        "PAYMENT_ENVIRONMENT": "production",
        "STRIPE_API_KEY": "sk_live_stripeSecret",
        "AMQP_URL": "amqp://localhost",
    }
    local = {"DATABASE_URL": "postgresql://payments@localhost/payments"}
    assert refused(**live, **local, STRIPE_API_PLAIN_TEXT_HOST="sandbox") == (
        "STRIPE_API_PLAIN_TEXT_HOST must not be set with a live key: it is for a sandbox"
    )


def test_commands_are_executed_for_whom_the_broker_lets_write_unless_users_are_named() -> None:
    assert loaded().senders is None
    named = loaded(COMMAND_USERS="payment-bridge, shop", AMQP_URL="amqp://payment-service:x@127.0.0.1/")
    assert named.senders == {"payment-bridge", "shop", "payment-service"}, "our own retries come back by our name"
    told = refused(COMMAND_USERS="shop", AMQP_URL="amqp://127.0.0.1/")
    assert told == "AMQP_URL must name its user where COMMAND_USERS is set: our own retries come back by it"


@pytest.mark.parametrize(
    ("url", "role"),
    [
        ("postgresql://payments:p@db.example/payments", "payments"),
        ("postgresql://a%40b@db.example/payments", "a@b"),
        ("postgresql://?host=/run/postgresql&user=payments", "payments"),
    ],
)
def test_the_applications_role_is_the_user_of_its_url(url: str, role: str) -> None:
    alone = loaded(MigrateSettings, DATABASE_URL=url)
    assert (alone.migration_database_url, alone.application) == (None, None), "there is nobody to grant anything to"
    owner = "postgresql://owner:ownerSecret@db.example/payments"
    settings = loaded(MigrateSettings, DATABASE_URL=url, MIGRATION_DATABASE_URL=owner)
    assert (settings.migration_database_url.get_secret_value(), settings.application) == (owner, role)
    assert "Secret" not in repr(settings).replace("SecretStr", "")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "MIGRATION_DATABASE_URL",
            "mysql://shown@host/name",
            "MIGRATION_DATABASE_URL is not valid; expected: postgres",
        ),
        ("MIGRATION_DATABASE_URL", "", "MIGRATION_DATABASE_URL is not valid; expected: postgres"),
        ("DATABASE_URL", "postgresql://shown.example/name", "DATABASE_URL must name its user"),
    ],
)
def test_a_migration_that_cannot_grant_is_refused(name: str, value: str, told: str) -> None:
    owner = {"MIGRATION_DATABASE_URL": "postgresql://owner@db.example/payments"}
    found = refused(MigrateSettings, **owner | {name: value})
    assert found.startswith(told)
    assert "shown" not in found
