"""The console's settings, from the environment. All problems are reported at once, and no value is ever shown."""

from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from console.users import InvalidUsersError, Users
from runtime import connection_urls
from runtime.process_settings import BrokerSettings, DatabaseSettings, ProcessSettings

AuthMode = Literal["none", "password", "proxy"]
MIN_SECRET_LENGTH: Final = 32
_TEMPLATE: Final = "an http:// or https:// URL with {} in it"


class Settings(DatabaseSettings, BrokerSettings, ProcessSettings):
    """One member per variable; a description says what is expected of it."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    console_host: str = Field(default="127.0.0.1", description="a host name or an IP address")
    console_port: int = Field(default=8087, ge=1, le=65535, description="a port from 1 to 65535")
    console_users: SecretStr | None = Field(
        default=None,
        description="lines of name:role:hash, as `payment-console user` prints them; CONSOLE_AUTH=password needs it",
    )
    console_proxy_secret: SecretStr | None = Field(
        default=None,
        description=f"{MIN_SECRET_LENGTH} characters or more, which the proxy sends too; CONSOLE_AUTH=proxy needs it",
    )
    console_proxy_user_header: str = Field(
        default="X-Forwarded-User", pattern="^[A-Za-z0-9-]{1,64}$", description="the name of a header"
    )
    console_proxy_roles_header: str = Field(
        default="X-Forwarded-Groups", pattern="^[A-Za-z0-9-]{1,64}$", description="the name of a header"
    )
    console_auth: AuthMode | None = Field(
        default=None,
        validate_default=True,
        description='"password" or "proxy", or "none" where CONSOLE_HOST is a loopback address; elsewhere it must be '
        "named",
    )
    console_hosts: str = Field(
        default="",
        description="the names by which browsers reach the console, separated by commas; with a port unless it is the "
        "scheme's own",
    )
    console_session_seconds: int = Field(default=28_800, ge=60, le=604_800, description="seconds from 60 to 604800")
    console_trace_url: str = Field(default="", description=_TEMPLATE.format("{trace_id}"))
    console_logs_url: str = Field(default="", description=_TEMPLATE.format("{request_id} or {payment_id}"))

    @field_validator("console_auth", mode="before")
    @classmethod
    def _lower_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("console_users")
    @classmethod
    def _are_users(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                Users.parsed(value.get_secret_value())
            except InvalidUsersError:
                raise ValueError from None
        return value

    @field_validator("console_proxy_secret")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < MIN_SECRET_LENGTH:
            raise ValueError
        return value

    @field_validator("console_auth")
    @classmethod
    def _is_chosen(cls, value: str | None, info: ValidationInfo) -> str:
        """Whoever reaches the port may read and act with `none`: beyond loopback that is never right."""
        if value in {None, "none"}:
            if not connection_urls.is_loopback(info.data.get("console_host", "")):
                raise ValueError
            return "none"
        needed = "console_users" if value == "password" else "console_proxy_secret"
        if needed in info.data and info.data[needed] is None:
            raise ValueError
        return value or "none"

    @field_validator("console_trace_url", "console_logs_url")
    @classmethod
    def _is_a_template(cls, value: str) -> str:
        if value and (urlsplit(value).scheme not in {"http", "https"} or "{" not in value):
            raise ValueError
        return value

    @property
    def hosts(self) -> frozenset[str]:
        """What a browser may call the console, lower case; empty: whatever reaches it."""
        return frozenset(host.strip().lower() for host in self.console_hosts.split(",") if host.strip())
