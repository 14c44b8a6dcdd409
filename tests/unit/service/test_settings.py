"""Settings: every problem at once, no value shown, keys sent to nobody but Stripe."""

import pytest

from service.failpoints import FailPoint
from service.settings import (
    STRIPE_API_BASE,
    BrokerSettings,
    DatabaseSettings,
    MigrateSettings,
    OperatorSettings,
    Settings,
    SettingsError,
    load,
)

GOOD = {
    "DATABASE_URL": "postgresql://payments:databaseSecret@db.example:5432/payments",
    "STRIPE_API_KEY": "sk_test_stripeSecret",
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings.model_fields, *MigrateSettings.model_fields):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)


def loaded(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    for name, value in (GOOD | environment).items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert isinstance(settings, Settings)
    return settings


def refused(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    with pytest.raises(SettingsError) as problems:
        loaded(monkeypatch, **environment)
    return str(problems.value)


def test_two_variables_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch)
    assert settings.amqp_url.get_secret_value() == "amqp://guest:guest@127.0.0.1:5672/"
    assert settings.stripe_api_base == STRIPE_API_BASE
    assert settings.payment_currency == "inr"
    assert (settings.payment_window_seconds, settings.verify_freshness_seconds) == (900, 1)
    assert settings.outbox_retention_days == 7
    assert (settings.service_host, settings.service_port) == ("127.0.0.1", 8086)
    assert (settings.stripe_concurrency, settings.log_level) == (64, "info")
    assert settings.origins == {"http://127.0.0.1:8084"}


def test_what_is_missing_is_listed_at_once() -> None:
    with pytest.raises(SettingsError) as problems:
        load()
    assert str(problems.value).splitlines() == [
        "DATABASE_URL is not set; expected: postgresql://user:password@host:port/name",
        (
            "STRIPE_API_KEY is not set; expected: a secret or restricted key of Stripe: "
            "sk_test_, rk_test_, sk_live_ or rk_live_ and what follows"
        ),
    ]


WRONG = {
    "PAYMENT_ENVIRONMENT": ["staging", "Production", ""],
    "AMQP_URL": ["http://shown.example/", "amqp://", "shown", "", "amqp://[shown", "amqp://u:p@shown.example:port/"],
    "COMMAND_USERS": ["", ",", "payment-bridge,", " , shown"],
    "DATABASE_URL": [
        "mysql://shown@host/name",
        "sqlite:///shown",
        "postgresql://",
        "shown",
        "",
        "postgresql+psycopg://shown@host/name",
        "postgresql://u:shown@host:port/name",
    ],
    "STRIPE_API_KEY": [
        "pk_test_shownshown",
        "sk_test_",
        "sk_prod_shownshown",
        "whsec_shownshown",
        "",
        "sk_test_shown shown",
        "sk_test_shownshown\n",
        " sk_test_shownshown",
    ],
    "STRIPE_API_BASE": [
        "http://shown.example",
        "ftp://127.0.0.1",
        "shown",
        "",
        "https://",
        "http://localhost.shown.example",
        "http://127.0.0.1@shown.example",
        "https:shown.example",
        "https:///shown",
    ],
    "STRIPE_CONCURRENCY": ["0", "2001", "many", "-1", ""],
    "STRIPE_REQUESTS_PER_SECOND": ["-1", "10001", "nan", "inf", "many", ""],
    "STRIPE_GLOBAL_REQUESTS_PER_SECOND": ["-1", "10001", "nan", "inf", "many", ""],
    "PAYMENT_CURRENCY": ["INR", "xxx", "", "rupees"],
    "PAYMENT_SUCCESS_URL": ["shown", "/shown", "//shown.example", "javascript:shown", "https://shown.example\\", ""],
    "PAYMENT_CANCEL_URL": ["shown", "ftp://shown.example", "https://user@shown.example/"],
    "PAYMENT_URL_ORIGINS": ["", ",", "https://shown.example,", "shown.example", "*", "https://*.shown.example"],
    "PAYMENT_WINDOW_SECONDS": ["59", "82801", "15m", "nan", "inf", "900.5"],
    "OUTBOX_RETENTION_DAYS": ["0", "-1", "3651", "7.5", "week", ""],
    "VERIFY_FRESHNESS_SECONDS": ["-1", "61", "nan", "inf", "often"],
    "SERVICE_HOST": [""],
    "SERVICE_PORT": ["-1", "65536", "http", "80.5"],
    "FAILPOINT": [
        "",
        "shown:1",
        "not-acked",
        "not-acked:",
        "not-acked:0",
        "not-acked:-1",
        "not-acked:x",
        "NOT_ACKED:1",
    ],
    "GIT_COMMIT": ["shown", "abcdef", "90B07FF", "90b07ff\n"],
    "LOG_LEVEL": ["loud", "INFO", ""],
    "LOG_FORMAT": ["xml"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_by_name_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    told = refused(monkeypatch, **{name: value})
    assert told.startswith(f"{name} is not valid; expected: ")
    assert "\n" not in told
    assert "shown" not in told


def test_all_problems_are_listed_together_and_no_value_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    told = refused(monkeypatch, **{name: values[0] for name, values in WRONG.items()})
    assert [line.split(" ")[0] for line in told.splitlines()] == list(WRONG)
    assert "shown" not in told


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://u:p@h:5432/n",
        "postgresql://u:p@h/n",
        "postgres://h/n",
        "postgresql://?host=/run/postgresql",
    ],
)
def test_every_usual_form_of_a_database_url_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert loaded(monkeypatch, DATABASE_URL=url).database_url.get_secret_value() == url


PRODUCTION = {"PAYMENT_ENVIRONMENT": "production", "DATABASE_URL": "postgresql://payments@127.0.0.1/payments"}
TEST_KEYS = ["sk_test_abcdefgh", "rk_test_abcdefgh"]
LIVE_KEYS = ["sk_live_abcdefgh", "rk_live_abcdefgh"]


@pytest.mark.parametrize("key", TEST_KEYS)
def test_secret_and_restricted_test_keys_are_taken(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    assert loaded(monkeypatch, STRIPE_API_KEY=key).stripe_api_key.get_secret_value() == key


@pytest.mark.parametrize(
    ("environment", "everything"),
    [
        ({}, 20),
        ({"STRIPE_API_BASE": "http://127.0.0.1:12111"}, 80),
        ({"STRIPE_API_KEY": LIVE_KEYS[0], "PAYMENT_ENVIRONMENT": "production"}, 80),
        ({"STRIPE_GLOBAL_REQUESTS_PER_SECOND": "7.5"}, 7.5),
        ({"STRIPE_GLOBAL_REQUESTS_PER_SECOND": "0"}, 0),
    ],
)
def test_calls_are_paced_by_what_stripe_allows_the_account(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], everything: float
) -> None:
    production = PRODUCTION if "PAYMENT_ENVIRONMENT" in environment else {}
    settings = loaded(monkeypatch, **production | environment)
    assert (settings.stripe_requests_per_second, settings.global_requests_per_second) == (20, everything)


@pytest.mark.parametrize("key", LIVE_KEYS)
def test_secret_and_restricted_live_keys_are_taken_in_production(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    assert loaded(monkeypatch, STRIPE_API_KEY=key, **PRODUCTION).stripe_api_key.get_secret_value() == key


@pytest.mark.parametrize("key", LIVE_KEYS)
@pytest.mark.parametrize("environment", [{}, {"PAYMENT_ENVIRONMENT": "development"}], ids=["unset", "development"])
def test_a_live_key_is_refused_outside_production(
    monkeypatch: pytest.MonkeyPatch, key: str, environment: dict[str, str]
) -> None:
    """S14 No real money is moved by accident: production must be said."""
    told = refused(monkeypatch, STRIPE_API_KEY=key, **environment)
    assert told == "STRIPE_API_KEY is a live key, which moves real money: only with PAYMENT_ENVIRONMENT=production"


@pytest.mark.parametrize("key", TEST_KEYS)
@pytest.mark.parametrize("base", [STRIPE_API_BASE, "http://127.0.0.1:12111", "https://mock.example"])
def test_a_test_key_is_refused_in_production_wherever_it_would_go(
    monkeypatch: pytest.MonkeyPatch, key: str, base: str
) -> None:
    """S14 Nobody gets a ticket for play money; a stand-in, which takes test keys only, is thereby refused as well."""
    told = refused(monkeypatch, STRIPE_API_KEY=key, STRIPE_API_BASE=base, **PRODUCTION)
    assert told == "STRIPE_API_KEY is a test key, with which nobody pays: not with PAYMENT_ENVIRONMENT=production"


def test_what_does_not_fit_together_is_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"STRIPE_API_KEY": LIVE_KEYS[0], "STRIPE_API_BASE": "https://mock.example", "FAILPOINT": "not-acked:1"}
    told = refused(monkeypatch, **wrong).splitlines()
    assert [line.split(" ")[0] for line in told] == ["STRIPE_API_BASE", "STRIPE_API_KEY", "FAILPOINT"]


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:12111", "http://localhost:1", "http://[::1]:1", "https://mock.example"]
)
def test_a_test_key_may_go_to_a_stand_in(monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    assert loaded(monkeypatch, STRIPE_API_BASE=base).stripe_api_base == base


@pytest.mark.parametrize("key", LIVE_KEYS)
@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:12111", "https://api.stripe.com.evil.example", "https://api.stripe.com/"]
)
def test_a_live_key_goes_to_stripe_only(monkeypatch: pytest.MonkeyPatch, key: str, base: str) -> None:
    told = refused(monkeypatch, STRIPE_API_KEY=key, STRIPE_API_BASE=base, **PRODUCTION)
    assert told == "STRIPE_API_BASE must not be set with a live key: it would be sent to somebody else"
    assert key not in told


@pytest.mark.parametrize("point", FailPoint)
def test_a_fail_point_is_armed_with_a_test_key_and_a_stand_in_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, point: FailPoint
) -> None:
    armed = loaded(monkeypatch, FAILPOINT=f"{point}:2", STRIPE_API_BASE="http://127.0.0.1:12111")
    assert armed.failpoint == f"{point}:2"
    assert loaded(monkeypatch, FAILPOINT=f"{point}:2", STRIPE_API_BASE="https://localhost").failpoint is not None


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"STRIPE_API_BASE": STRIPE_API_BASE},
        {"STRIPE_API_BASE": f"{STRIPE_API_BASE}/"},
        {"STRIPE_API_BASE": "https://API.stripe.com:443"},
        {"STRIPE_API_BASE": "https://stand-in.example"},
        {"STRIPE_API_KEY": "sk_live_abcdefgh", **PRODUCTION},
        {"STRIPE_API_KEY": "rk_live_abcdefgh", **PRODUCTION},
    ],
)
def test_no_fail_point_is_armed_where_real_money_could_move(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    told = refused(monkeypatch, FAILPOINT="not-acked:1", **environment)
    assert told == "FAILPOINT kills the service: only with a test key and STRIPE_API_BASE on this machine"


def test_a_live_key_and_a_fail_point_are_refused_on_this_machine_too(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"STRIPE_API_KEY": "sk_live_abcdefgh", "STRIPE_API_BASE": "http://127.0.0.1:12111"}
    assert refused(monkeypatch, FAILPOINT="not-acked:1", **here)


def test_secrets_stay_out_of_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = repr(loaded(monkeypatch, AMQP_URL="amqp://u:amqpSecret@h/"))
    assert "Secret" not in printed.replace("SecretStr", "")


def test_origins_are_those_named_else_those_of_the_two_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"PAYMENT_SUCCESS_URL": "https://a.example/x", "PAYMENT_CANCEL_URL": "http://b.example:81/y"}
    assert loaded(monkeypatch, **pages).origins == {"https://a.example:443", "http://b.example:81"}
    named = loaded(monkeypatch, **pages, PAYMENT_URL_ORIGINS="https://C.example, https://d.example:8443")
    assert named.origins == {"https://c.example:443", "https://d.example:8443"}


def test_a_command_that_only_reads_needs_the_database_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", GOOD["DATABASE_URL"])
    settings = load(DatabaseSettings)
    assert settings.database_url.get_secret_value() == GOOD["DATABASE_URL"]


GUEST = "AMQP_URL must name a user of its own beyond this machine: guest is everybody's"
PLAIN_AMQP = "AMQP_URL must begin with amqps:// beyond this machine in production"
PLAIN_DATABASE = "DATABASE_URL must have sslmode=verify-full beyond this machine in production"


def test_guest_and_plain_text_do_not_leave_this_machine_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """S6, S23: every problem at once, and in development plain text is only told."""
    far = "amqp://guest:guest@broker.example/"
    assert refused(monkeypatch, AMQP_URL=far) == GUEST
    told = refused(monkeypatch, AMQP_URL=far, PAYMENT_ENVIRONMENT="production", SERVICE_PORT="http")
    assert told.splitlines()[:3] == [GUEST, PLAIN_AMQP, PLAIN_DATABASE]
    assert told.splitlines()[3].startswith("SERVICE_PORT is not valid")
    monkeypatch.delenv("SERVICE_PORT")
    far = "amqp://payment-service:amqpSecret@broker.example/payments"
    settings = loaded(monkeypatch, AMQP_URL=far, PAYMENT_ENVIRONMENT="development")
    assert settings.in_plain_text == ("AMQP_URL", "DATABASE_URL")
    assert loaded(monkeypatch, AMQP_URL="amqp://127.0.0.1/").in_plain_text == ("DATABASE_URL",)


@pytest.mark.parametrize("model", [DatabaseSettings, MigrateSettings, BrokerSettings, OperatorSettings])
def test_the_commands_of_an_operator_are_held_to_it_too(
    monkeypatch: pytest.MonkeyPatch, model: type[DatabaseSettings]
) -> None:
    monkeypatch.setenv("PAYMENT_ENVIRONMENT", "production")
    monkeypatch.setenv("AMQP_URL", "amqp://payment-operator:x@broker.example/payments")
    for name in ("DATABASE_URL", "MIGRATION_DATABASE_URL"):
        monkeypatch.setenv(name, GOOD["DATABASE_URL"])
    with pytest.raises(SettingsError) as problems:
        load(model)
    expected = {"amqp_url": PLAIN_AMQP, "database_url": PLAIN_DATABASE}
    told = {expected[name] for name in model.model_fields if name in expected}
    assert {line for line in str(problems.value).splitlines() if not line.startswith("MIGRATION_")} == told


def test_commands_are_executed_for_whom_the_broker_lets_write_unless_users_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert loaded(monkeypatch).senders is None
    named = loaded(monkeypatch, COMMAND_USERS="payment-bridge, shop", AMQP_URL="amqp://payment-service:x@127.0.0.1/")
    assert named.senders == {"payment-bridge", "shop", "payment-service"}, "our own retries come back by our name"
    told = refused(monkeypatch, AMQP_URL="amqp://127.0.0.1/")
    assert told == "AMQP_URL must name its user where COMMAND_USERS is set: our own retries come back by it"


def test_a_stranger_among_the_variables_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, STRIPE_API_KEYS="x", PAYMENT="y").payment_currency == "inr"


def test_migrating_may_have_a_role_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", GOOD["DATABASE_URL"])
    assert load(MigrateSettings).migration_database_url is None
    monkeypatch.setenv("MIGRATION_DATABASE_URL", "postgresql://owner:ownerSecret@db.example/payments")
    settings = load(MigrateSettings)
    assert settings.migration_database_url.get_secret_value() == "postgresql://owner:ownerSecret@db.example/payments"
    assert "Secret" not in repr(settings).replace("SecretStr", "")


@pytest.mark.parametrize(
    ("url", "role"),
    [
        ("postgresql://payments:p@db.example/payments", "payments"),
        ("postgresql://a%40b@db.example/payments", "a@b"),
        ("postgresql://?host=/run/postgresql&user=payments", "payments"),
    ],
)
def test_the_applications_role_is_the_user_of_its_url(monkeypatch: pytest.MonkeyPatch, url: str, role: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert load(MigrateSettings).application is None, "with one role there is nobody to grant anything to"
    monkeypatch.setenv("MIGRATION_DATABASE_URL", "postgresql://owner@db.example/payments")
    assert load(MigrateSettings).application == role


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
def test_a_migration_that_cannot_grant_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    for variable, url in {**GOOD, "MIGRATION_DATABASE_URL": "postgresql://owner@db.example/payments"}.items():
        monkeypatch.setenv(variable, url)
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as problems:
        load(MigrateSettings)
    assert str(problems.value).startswith(told)
    assert "shown" not in str(problems.value)
