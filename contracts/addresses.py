"""What an address in the settings must be before secrets and commands are sent to it; both processes ask the same.

Beyond this machine nobody may listen or answer in another's place: a certificate is always checked, there is no switch
to turn that off, and in production plain text is refused. On this machine (loopback, sockets) there is nobody else.
"""

import ipaddress
import ssl
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

_LOCAL_NAMES: Final = frozenset({"localhost", "ip6-localhost"})
_SSL_MODES: Final = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})


class InsecureAddressError(ValueError):
    """An address must not be used; the text is a sentence for an operator (or several, a line each) without values."""


def is_loopback(host: str) -> bool:
    """Whether whoever listens at `host` (a name or an IP address) is on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in _LOCAL_NAMES


def is_ip_address(host: str) -> bool:
    """Whether `host` is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def amqp_user(url: str) -> str | None:
    """The RabbitMQ user that logs in by this URL, for the property `user_id`; None if the URL does not tell."""
    parts = urlsplit(url)
    by_certificate = "external" in _last(parts, "auth").lower()
    return None if by_certificate or not parts.username else unquote(parts.username)


def check_amqp(url: str, *, name: str, production: bool) -> None:
    """Raises InsecureAddressError unless the URL of RabbitMQ, in the variable `name`, may be used."""
    parts = urlsplit(url)
    problems = []
    if _is_elsewhere(parts) and "external" not in _last(parts, "auth").lower() and amqp_user(url) in {None, "guest"}:
        problems.append(f"{name} must name a user of its own beyond this machine: guest is everybody's")
    if set(_query(parts).get("no_verify_ssl", ["0"])) != {"0"} or "verify" in _query(parts):
        problems.append(f"{name} must not choose whether RabbitMQ's certificate is checked: it always is")
    if (cafile := _last(parts, "cafile")) and not _holds_certificates(cafile):
        problems.append(f"{name} names a cafile from which no certificate can be read")
    if production and is_plain_text(url):
        problems.append(f"{name} must begin with amqps:// beyond this machine in production")
    _refuse(problems)


def check_database(url: str, *, name: str, production: bool) -> None:
    """Raises InsecureAddressError unless the URL of PostgreSQL, in the variable `name`, may be used."""
    parts = urlsplit(url)
    mode, ca = _last(parts, "sslmode"), _last(parts, "sslrootcert")
    problems = []
    if "ssl" in _query(parts) or mode not in _SSL_MODES | {""}:
        problems.append(f"{name} must ask for TLS by sslmode=verify-full&sslrootcert=<file>")
    elif _is_elsewhere(parts) and mode not in {"", "disable", "verify-full"}:
        problems.append(f"{name} must have sslmode=verify-full: the other modes do not check who answers")
    elif production and is_plain_text(url):
        problems.append(f"{name} must have sslmode=verify-full beyond this machine in production")
    if (ca or mode == "verify-full") and not _holds_certificates(ca):
        problems.append(f"{name} must name in sslrootcert a file from which certificates can be read")
    _refuse(problems)


def is_plain_text(url: str) -> bool:
    """Whether what goes to RabbitMQ or PostgreSQL by this URL can be read on its way to another machine."""
    parts = urlsplit(url)
    if parts.scheme == "amqps" or _last(parts, "sslmode") == "verify-full":
        return False
    return _is_elsewhere(parts)


def distrust(error: BaseException) -> str | None:
    """Why whoever answered is not trusted, to be put behind its name; None if it failed for another reason."""
    seen = set[int]()
    while not isinstance(error, ssl.SSLCertVerificationError):
        seen.add(id(error))
        cause = error.__cause__ or error.__context__
        if cause is None or id(cause) in seen:  # an exception that is raised again can be its own cause's context
            return None
        error = cause
    return f"shows a certificate that is not trusted ({error.verify_message.rstrip('.')})"


def _is_elsewhere(parts: SplitResult) -> bool:
    """PostgreSQL's host may stand in the query, and be a list, or the folder of a socket."""
    hosts = [parts.hostname] if parts.hostname else _last(parts, "host").split(",")
    return any(not host.startswith("/") and not is_loopback(host) for host in hosts if host)


def _query(parts: SplitResult) -> dict[str, list[str]]:
    return parse_qs(parts.query, keep_blank_values=True)


def _last(parts: SplitResult, name: str) -> str:
    return _query(parts).get(name, [""])[-1]


def _holds_certificates(file: str) -> bool:
    try:
        ssl.create_default_context(cafile=file)
    except (OSError, ValueError):
        return False
    return bool(file)


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InsecureAddressError("\n".join(problems))
