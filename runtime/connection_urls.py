"""What the URLs of RabbitMQ and PostgreSQL must be before secrets and commands are sent there, for every process.

Beyond this machine nobody may listen or answer in a server's place: a certificate is always checked, no setting turns
that off, and in production plain text is refused. On this machine (loopback, sockets) nobody can.
"""

import ipaddress
import re
import ssl
from collections.abc import Iterable
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from runtime import amqp_nodes

_LOCAL_NAMES: Final = frozenset({"localhost", "ip6-localhost"})
_SSL_MODES: Final = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
_AUTHORITY: Final = re.compile(r"(?P<scheme>[^:/?#]*://)(?:(?P<login>[^/?#]*)@)?(?P<hosts>[^/?#@]*)")
_SERVER: Final = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[^\[\]:@/\s]+))(?::(?P<port>\d{1,5}))?", re.ASCII)
DATABASE_PORT: Final = 5432
_HIGHEST_PORT: Final = 65535
_NO_SERVER: Final = "a host or port is not valid"


class InsecureAddressError(ValueError):
    """A URL must not be used; the text is a sentence for the operator (or several, a line each) without values."""


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an IP address) is this machine."""
    return ipaddress.ip_address(host).is_loopback if is_ip_address(host) else host.lower() in _LOCAL_NAMES


def is_ip_address(host: str) -> bool:
    """Whether `host` is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def amqp_user(url: str) -> str | None:
    """The RabbitMQ user of this URL, for the property `user_id`; None if the URL does not name it."""
    parts = urlsplit(amqp_nodes.node_urls(url)[0])  # the nodes differ in nothing else
    by_certificate = "external" in _last(parts, "auth").lower()
    return None if by_certificate or not parts.username else unquote(parts.username)


def check_amqp(url: str, *, name: str, production: bool) -> None:
    """Raise InsecureAddressError unless the URL of RabbitMQ, in the variable `name`, may be used with all its nodes."""
    try:
        nodes = [urlsplit(node) for node in amqp_nodes.node_urls(url)]
    except ValueError as error:
        raise InsecureAddressError(f"{name} {error}") from None
    parts = nodes[0]  # the nodes differ in nothing but where they are
    problems = []
    if (
        _is_elsewhere(node.hostname or "" for node in nodes)
        and "external" not in _last(parts, "auth").lower()
        and amqp_user(url) in {None, "guest"}
    ):
        problems.append(f"{name} must name a user of its own beyond this machine: guest is everybody's")
    if set(_query(parts).get("no_verify_ssl", ["0"])) != {"0"} or "verify" in _query(parts):
        problems.append(f"{name} must not choose whether RabbitMQ's certificate is checked: it always is")
    if (cafile := _last(parts, "cafile")) and not _holds_certificates(cafile):
        problems.append(f"{name} names a cafile from which no certificate can be read")
    if production and is_plain_text(url):
        problems.append(f"{name} must begin with amqps:// beyond this machine in production")
    _refuse(problems)


def check_database(url: str, *, name: str, production: bool) -> None:
    """Raise InsecureAddressError unless the URL of PostgreSQL, in the variable `name`, may be used: all its hosts."""
    parts = urlsplit(without_database_hosts(url))
    mode, ca = _last(parts, "sslmode"), _last(parts, "sslrootcert")
    problems = []
    if "ssl" in _query(parts) or mode not in _SSL_MODES | {""}:
        problems.append(f"{name} must ask for TLS by sslmode=verify-full&sslrootcert=<file>")
    elif _is_elsewhere(host for host, _ in database_hosts(url)) and mode not in {"", "disable", "verify-full"}:
        problems.append(f"{name} must have sslmode=verify-full: the other modes do not check who answers")
    elif production and is_plain_text(url):
        problems.append(f"{name} must have sslmode=verify-full beyond this machine in production")
    if (ca or mode == "verify-full") and not _holds_certificates(ca):
        problems.append(f"{name} must name in sslrootcert a file from which certificates can be read")
    _refuse(problems)


def is_database(url: str) -> bool:
    """Whether the URL leads to PostgreSQL; ValueError for a host or port that is not valid."""
    parts = urlsplit(without_database_hosts(url))
    is_named = bool(database_hosts(url) or parts.netloc or parts.query)
    return parts.scheme in {"postgresql+asyncpg", "postgresql", "postgres"} and is_named


def database_hosts(url: str) -> list[tuple[str, int]]:
    """The servers, or folders of sockets, that the URL of PostgreSQL names, with their ports; none: the driver chooses.

    As libpq spells them: `host1:5432,host2:5432` before the name of the database, or `?host=a,b&port=1,2`.

    Raises:
        ValueError: one of them is not valid.
    """
    query = urlsplit(_without_authority(url))
    found = _AUTHORITY.match(url)
    listed, ports = unquote(found["hosts"]) if found else "", [str(DATABASE_PORT)]
    if not listed:
        listed, ports = _last(query, "host"), (_last(query, "port") or str(DATABASE_PORT)).split(",")
    hosts = listed.split(",") if listed else []
    if len(ports) == 1:
        ports *= len(hosts)
    if hosts and len(ports) != len(hosts):
        raise ValueError(_NO_SERVER)
    return [_server(host, port) for host, port in zip(hosts, ports, strict=False)]


def without_database_hosts(url: str) -> str:
    """The URL of PostgreSQL without what `database_hosts` has found."""
    if not database_hosts(url):
        return url
    found = _AUTHORITY.match(url)
    login = f"{found['login']}@" if found and found["login"] is not None else ""
    parts = urlsplit(_without_authority(url))
    kept = [part for part in parts.query.split("&") if part and part.partition("=")[0] not in {"host", "port"}]
    return parts._replace(netloc=login, query="&".join(kept)).geturl()


def is_plain_text(url: str) -> bool:
    """Whether the connection to RabbitMQ or PostgreSQL by this URL leaves this machine unencrypted."""
    if url.lower().startswith("amqp"):
        nodes = [urlsplit(node) for node in amqp_nodes.node_urls(url)]
        return nodes[0].scheme != "amqps" and _is_elsewhere(node.hostname or "" for node in nodes)
    mode = _last(urlsplit(_without_authority(url)), "sslmode")
    return mode != "verify-full" and _is_elsewhere(host for host, _ in database_hosts(url))


def distrust(error: BaseException) -> str | None:
    """Why the server's certificate is not trusted, to follow its name; None if the error has another cause."""
    seen = set[int]()
    while not isinstance(error, ssl.SSLCertVerificationError):
        seen.add(id(error))
        cause = error.__cause__ or error.__context__
        if cause is None or id(cause) in seen:  # a re-raised exception can be its own cause's context
            return None
        error = cause
    return f"shows a certificate that is not trusted ({error.verify_message.rstrip('.')})"


def _is_elsewhere(hosts: Iterable[str]) -> bool:
    """Whether any is; a folder of a socket is not."""
    return any(not host.startswith("/") and not is_loopback(host) for host in hosts if host)


def _server(text: str, port: str) -> tuple[str, int]:
    """Host and port of one server of PostgreSQL; `port`: if the text has none."""
    host = text
    if not (text.startswith("/") or is_ip_address(text)):
        found = _SERVER.fullmatch(text)
        host, port = (found["address"] or found["name"], found["port"] or port) if found else ("", "")
        if found and found["address"] is not None and not is_ip_address(host):
            host = ""
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port) <= _HIGHEST_PORT):
        raise ValueError(_NO_SERVER)
    return host, int(port)


def _without_authority(url: str) -> str:
    """The URL with no login and no host: what Python refuses to parse where it names several."""
    return _AUTHORITY.sub(r"\g<scheme>", url, count=1)


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
