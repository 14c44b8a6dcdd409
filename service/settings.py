"""The service's settings: environment variables, all checked at start; every problem is listed, no value is shown."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Final, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, model_validator
from pydantic_settings import NoDecode

from runtime import connection_urls
from runtime.process_settings import BrokerSettings, DatabaseSettings, DatabaseUrl, ProcessSettings, checked
from service import failpoints
from service.domain import urls
from service.domain.money import CURRENCIES, ENDED

STRIPE_API_BASE: Final = "https://api.stripe.com"
DESCRIPTION: Final = "^[!-~][ -~]{0,199}$"
_HOST: Final = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
_KEY = re.compile(r"(sk|rk)_(test|live)_[A-Za-z0-9_]{8,250}", re.ASCII)


def _names(text: str) -> frozenset[str]:
    names = [part.strip() for part in text.split(",")]
    if not all(names):
        raise ValueError
    return frozenset(names)


def _origins(text: str) -> frozenset[str]:
    origins = {urls.origin(part.strip()) for part in text.split(",")}
    if None in origins:
        raise ValueError
    return frozenset(origin for origin in origins if origin is not None)


def _is_charged(currency: str) -> bool:
    ended_on, _ = ENDED.get(currency, (date.max, ""))
    return currency in CURRENCIES and datetime.now(UTC).date() < ended_on


def _api_base(value: str, info: ValidationInfo) -> str:
    """Needs `stripe_api_plain_text_host` to be validated before."""
    parts = urlsplit(value)
    host, _ = parts.hostname or "", parts.port  # raises ValueError unless it is none or a port number
    may_be_plain = connection_urls.is_loopback(host) or host == info.data.get("stripe_api_plain_text_host")
    if not host or parts.scheme not in ({"https", "http"} if may_be_plain else {"https"}):
        raise ValueError
    return value


_SuccessUrl = Annotated[str, checked(urls.success)]
_CancelUrl = Annotated[str, checked(urls.cancel)]
_PAGES: Final = "http://127.0.0.1:8084/payments"


class OperatorSettings(DatabaseSettings, BrokerSettings):
    """For replaying and dropping dead letters, which is recorded in the database."""


class GatewaySettings(DatabaseSettings):
    """For commands that use the database and Stripe."""

    stripe_api_key: Annotated[SecretStr, checked(lambda key: _KEY.fullmatch(key.get_secret_value()))] = Field(
        description="a secret or restricted key of Stripe: sk_test_, rk_test_, sk_live_ or rk_live_ and what follows"
    )
    stripe_api_plain_text_host: str | None = Field(
        None, pattern=_HOST, description="a host name in lower case or an address, without a port"
    )
    stripe_api_base: Annotated[str, AfterValidator(_api_base)] = Field(
        STRIPE_API_BASE,
        description="an https:// URL, or http:// on this machine or at STRIPE_API_PLAIN_TEXT_HOST; "
        "another than Stripe's for test keys only",
    )

    @model_validator(mode="after")
    def _keys_fit_their_place(self) -> Self:
        """Live keys are for production and go to Stripe only; test keys are for everywhere else."""
        if problems := self._misplaced():
            raise ValueError("\n".join(problems))
        return self

    def _misplaced(self) -> list[str]:
        live = "_live_" in self.stripe_api_key.get_secret_value()
        production = self.payment_environment == "production"
        problems = []
        if live and self.stripe_api_base != STRIPE_API_BASE:
            problems.append("STRIPE_API_BASE must not be set with a live key: it would be sent to somebody else")
        if live and self.stripe_api_plain_text_host is not None:
            problems.append("STRIPE_API_PLAIN_TEXT_HOST must not be set with a live key: it is for a sandbox")
        if live and not production:
            problems.append(
                "STRIPE_API_KEY is a live key, which moves real money: only with PAYMENT_ENVIRONMENT=production"
            )
        if production and not live:
            problems.append(
                "STRIPE_API_KEY is a test key, with which nobody pays: not with PAYMENT_ENVIRONMENT=production"
            )
        return problems


class Settings(OperatorSettings, GatewaySettings, ProcessSettings):
    """One member per variable; a description says what is expected of it."""

    database_listen_url: DatabaseUrl | None = Field(
        None, description="postgresql://user:password@host:port/name, past any pooler in transaction mode"
    )
    command_users: Annotated[str, checked(_names), NoDecode] | None = Field(
        None, description="RabbitMQ users whose commands are executed, separated by commas"
    )
    stripe_concurrency: int = Field(64, ge=1, le=2000, description="an integer from 1 to 2000")
    stripe_requests_per_second: float = Field(20, ge=0, le=10_000, description="a number from 0 (no pacing) to 10000")
    stripe_global_requests_per_second: float | None = Field(
        None, ge=0, le=10_000, description="a number from 0 (no limit) to 10000"
    )
    feed_interval_seconds: float = Field(2, ge=0.1, le=60, description="a number from 0.1 to 60")
    reconcile_on_start: Literal["auto", "always", "never"] = Field("auto", description='"auto", "always" or "never"')
    reconcile_interval_seconds: int = Field(3600, ge=0, le=86_400, description="an integer from 0 (off) to 86400")
    payment_currency: Annotated[str, checked(_is_charged)] = Field(
        "inr", description="a lower-case ISO 4217 code that Stripe charges"
    )
    payment_billing_address: Literal["auto", "required"] = Field("auto", description='"auto" or "required"')
    payment_description: str | None = Field(
        None, pattern=DESCRIPTION, description="1 to 200 printable ASCII characters, in which {booking} is filled in"
    )
    payment_success_url: _SuccessUrl = Field(
        f"{_PAGES}/success?session_id={{CHECKOUT_SESSION_ID}}",
        description="an absolute http(s) URL, in which Stripe fills in {CHECKOUT_SESSION_ID}, spelt exactly so",
    )
    payment_cancel_url: _CancelUrl = Field(
        f"{_PAGES}/cancelled", description="an absolute http(s) URL, without {CHECKOUT_SESSION_ID}"
    )
    payment_url_origins: Annotated[str, checked(_origins), NoDecode] | None = Field(
        None, description="origins (https://host:port) that callers may name in their URLs, separated by commas"
    )
    payment_window_seconds: int = Field(900, ge=60, le=82_800, description="an integer from 60 to 82800")
    payment_reuse_seconds: int = Field(60, ge=0, le=82_800, description="an integer from 0 to 82800")
    outbox_retention_days: int = Field(7, ge=1, le=3650, description="an integer from 1 to 3650")
    verify_freshness_seconds: float = Field(1, ge=0, le=60, description="a number from 0 to 60")
    service_host: str = Field("127.0.0.1", min_length=1, description="an address to listen on")
    service_port: int = Field(8086, ge=0, le=65535, description="a port number")
    failpoint: Annotated[str, checked(failpoints.parse)] | None = Field(
        None, description="<name>:<n>, a name from service/failpoints.py and the time, from 1, that it is reached"
    )

    def _misplaced(self) -> list[str]:
        problems = super()._misplaced()
        here = connection_urls.is_loopback(urlsplit(self.stripe_api_base).hostname or "")
        if self.failpoint is not None and ("_live_" in self.stripe_api_key.get_secret_value() or not here):
            problems.append("FAILPOINT kills the service: only with a test key and STRIPE_API_BASE on this machine")
        return problems

    @model_validator(mode="after")
    def _own_retries_have_a_user(self) -> Self:
        if self.command_users is not None and self.amqp_user is None:
            raise ValueError("AMQP_URL must name its user where COMMAND_USERS is set: our own retries come back by it")
        return self

    @property
    def global_requests_per_second(self) -> float:
        """For all endpoints together: 80 % of what Stripe allows an account, which is far less for test keys."""
        if self.stripe_global_requests_per_second is not None:
            return self.stripe_global_requests_per_second
        is_test = "_test_" in self.stripe_api_key.get_secret_value()
        return 20 if is_test and self.stripe_api_base == STRIPE_API_BASE else 80

    @property
    def amqp_user(self) -> str | None:
        """The service's own RabbitMQ user, if AMQP_URL names it."""
        return connection_urls.amqp_user(self.amqp_url.get_secret_value())

    @property
    def senders(self) -> frozenset[str] | None:
        """RabbitMQ users whose commands are executed, including our own for retries; None: the broker decides."""
        if self.command_users is None or self.amqp_user is None:
            return None
        return _names(self.command_users) | {self.amqp_user}

    @property
    def in_plain_text(self) -> tuple[str, ...]:
        """The variables whose connections leave this machine unencrypted."""
        urls = {"AMQP_URL": self.amqp_url, "DATABASE_URL": self.database_url}
        urls |= {"DATABASE_LISTEN_URL": self.database_listen_url} if self.database_listen_url else {}
        names = [name for name, url in urls.items() if connection_urls.is_plain_text(url.get_secret_value())]
        base = urlsplit(self.stripe_api_base)
        if base.scheme == "http" and not connection_urls.is_loopback(base.hostname or ""):
            names.append("STRIPE_API_BASE")
        return tuple(names)

    @property
    def origins(self) -> frozenset[str]:
        """Allowed origins of return URLs, normalised: the configured ones, else those of the two default URLs."""
        if self.payment_url_origins is not None:
            return _origins(self.payment_url_origins)
        return _origins(f"{self.payment_success_url},{self.payment_cancel_url}")


class MigrateSettings(DatabaseSettings):
    """For `migrate`: another role than the application's may own the tables."""

    migration_database_url: DatabaseUrl | None = Field(
        None, description="postgresql://user:password@host:port/name, of the role that shall own the tables"
    )
    console_database_role: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$", description="the name of the console's role, if it has its own"
    )

    payment_currency: Annotated[str, AfterValidator(lambda code: code if _is_charged(code) else "inr")] = Field(
        "inr", description="the same as the service's, which refuses a wrong one"
    )

    @model_validator(mode="after")
    def _the_application_has_a_role(self) -> Self:
        if self.migration_database_url is not None and not self.application:
            raise ValueError("DATABASE_URL must name its user, whom the migration grants what the application needs")
        return self

    @property
    def application(self) -> str | None:
        """The role with which the service uses the tables, if another role owns them."""
        if self.migration_database_url is None:
            return None
        parts = urlsplit(connection_urls.without_database_hosts(self.database_url.get_secret_value()))
        return unquote(parts.username or "") or parse_qs(parts.query).get("user", [None])[0]
