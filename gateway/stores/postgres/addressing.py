"""
The URI of a PostgreSQL ledger: `postgresql://role@host[:port][,host[:port]…]/database?key=value…`, or, over a socket,
`postgresql://role@/database?host=/run/postgresql`.

Keys, each at most once:

- `passfile`: a file with the password, in the form of libpq's `.pgpass`; passwords never stand in the URI.
- `sslmode`: `verify-full` (the default over TCP) or `disable`; `sslrootcert`: the CA (absent: those of the system);
  `sslcert`, `sslkey`: a client certificate.
- `standby=required`: refuse a server that commits without a synchronous standby.
- `pool_min`, `pool_max`: how many connections are kept, and how many there may be.
- `host`, `port`: of the socket.
"""

import re
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from gateway.errors import StoreUnavailable

POSTGRESQL: Final = "postgresql"
_PORT: Final = 5432
_KEYS: Final = frozenset(
    {
        "host", "passfile", "pool_max", "pool_min", "port", "sslcert", "sslkey", "sslmode", "sslrootcert", "standby",
    }
)  # fmt: skip
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?\Z")
_LINE: Final = re.compile(":".join([r"((?:[^:\\]|\\.)*)"] * 5))  # of a passfile


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """Where the database is, as whom, and on what terms. A host that begins with `/` is the folder of a socket."""

    hosts: tuple[tuple[str, int], ...]
    role: str
    database: str
    passfile: Path | None = None
    is_encrypted: bool = True
    ca_file: Path | None = None
    certificate: Path | None = None
    key_file: Path | None = None
    needs_standby: bool = False
    pool_min: int = 1
    pool_max: int = 10

    @property
    def is_exposed(self) -> bool:
        """Tell whether what is said to the database passes a network in clear."""
        return not self.is_encrypted and any(not host.startswith("/") and host not in _LOCAL for host, _ in self.hosts)


def parse_address(uri: str) -> ServerAddress:
    """
    Read a URI; see the module text.

    Raises:
        ValueError: with what to write instead; never with a password in it.
    """
    if not uri.isascii() or not uri.isprintable() or " " in uri:
        raise ValueError("must be written in ASCII; percent-encode other characters")
    parts = urlsplit(uri)
    if parts.scheme != POSTGRESQL or not uri.startswith(f"{POSTGRESQL}://") or parts.fragment:
        raise ValueError("must be postgresql://role@host/database")
    login, at, hosts_text = parts.netloc.rpartition("@")
    if ":" in login:
        raise ValueError("must not hold a password; put it into a file and add ?passfile=/path (see .pgpass of libpq)")
    database = unquote(parts.path[1:])
    if not at or not login or not database or "/" in database:
        raise ValueError("must name the role and the database: postgresql://role@host/database")
    options = _options(parts.query)
    hosts = _hosts(hosts_text, options)
    is_tcp = not hosts[0][0].startswith("/")
    ssl_mode = options.get("sslmode", "verify-full" if is_tcp else "disable")
    if ssl_mode not in ("verify-full", "disable") or (ssl_mode == "verify-full" and not is_tcp):
        raise ValueError("sslmode must be verify-full, or disable where nobody else can listen")
    if options.get("standby", "required") != "required":
        raise ValueError("standby must be required, or absent")
    if ("sslcert" in options) != ("sslkey" in options):
        raise ValueError("sslcert and sslkey go together")
    pool_min, pool_max = _count(options, "pool_min", 1), _count(options, "pool_max", 10)
    if pool_max < max(pool_min, 2):
        raise ValueError("pool_max must be at least 2, and at least pool_min")
    return ServerAddress(
        hosts=hosts,
        role=unquote(login),
        database=database,
        passfile=_path(options, "passfile"),
        is_encrypted=ssl_mode == "verify-full",
        ca_file=_path(options, "sslrootcert"),
        certificate=_path(options, "sslcert"),
        key_file=_path(options, "sslkey"),
        needs_standby="standby" in options,
        pool_min=pool_min,
        pool_max=pool_max,
    )


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise ValueError("must have a query like ?key=value&key=value") from None
    if "password" in dict(pairs):
        raise ValueError("must not hold a password; put it into a file and add ?passfile=/path (see .pgpass of libpq)")
    if not {key for key, _ in pairs} <= _KEYS:
        raise ValueError(f"has an unknown key in its query; known are {', '.join(sorted(_KEYS))}")
    if len(dict(pairs)) < len(pairs):
        raise ValueError("must name each key once")
    return dict(pairs)


def _hosts(text: str, options: dict[str, str]) -> tuple[tuple[str, int], ...]:
    if not text:
        folder = options.get("host", "")
        if not folder.startswith("/"):
            raise ValueError("must name a host, or the folder of a socket: postgresql://role@/database?host=/folder")
        return ((folder, _count(options, "port", _PORT)),)
    if "host" in options or "port" in options:
        raise ValueError("must name the host and port once; the keys host and port are for sockets")
    hosts = []
    for each in text.split(","):
        match = _HOST.match(each)
        port = int(match["port"] or _PORT) if match else 0
        if match is None or not 0 < port < 1 << 16:
            raise ValueError("must name hosts like db1.example:5432,db2.example:5432")
        hosts.append((match["six"] or match["name"], port))
    return tuple(hosts)


def _count(options: dict[str, str], key: str, default: int) -> int:
    text = options.get(key, str(default))
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise ValueError(f"{key} must be a number from 1")
    return int(text)


def _path(options: dict[str, str], key: str) -> Path | None:
    if key not in options:
        return None
    path = Path(options[key])
    if not path.is_absolute():
        raise ValueError(f"{key} must be an absolute path")
    return path


def read_password(address: ServerAddress) -> str | None:
    """
    Return the password of the role, None without a `passfile`.

    Raises:
        StoreUnavailable: the file cannot be read, everybody may read it, or it has no line for this role.
    """
    path = address.passfile
    if path is None:
        return None
    try:
        if path.stat().st_mode & stat.S_IRWXO:
            raise StoreUnavailable(f"everybody may read {path}: chmod 0600 (or 0640) it")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreUnavailable(f"{path} cannot be read: {type(error).__name__}") from error
    for line in lines:
        match = None if line.startswith("#") else _LINE.fullmatch(line)
        if match is None:
            continue
        fields = [re.sub(r"\\(.)", r"\1", field) for field in match.groups()]
        for host, port in address.hosts:
            wanted = ("localhost" if host.startswith("/") else host, str(port), address.database, address.role)
            if all(field in ("*", want) for field, want in zip(fields, wanted, strict=False)):
                return fields[-1]
    raise StoreUnavailable(f"{path} has no line for role {address.role}: host:port:database:role:password")


def tls_context(address: ServerAddress) -> ssl.SSLContext | None:
    """
    Return what a connection is encrypted with, None when it is not; it reads files.

    Raises:
        StoreUnavailable: a file cannot be read.
    """
    if not address.is_encrypted:
        return None
    try:
        context = ssl.create_default_context(cafile=address.ca_file)
        if address.certificate is not None:
            context.load_cert_chain(address.certificate, address.key_file)
    except (OSError, ssl.SSLError) as error:
        raise StoreUnavailable(f"the certificates for the ledger's database cannot be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
