"""
Who sends, and to which gateway: the file `sender.toml`.

    base_url = "https://gateway.example.be:8443"
    gateway = "gateway.example.be"            # the name that messages are addressed to
    ca = "gateway-ca.pem"                     # whom the gateway's TLS certificate must come from; absent: the system's
    receipt_certificate = "receipts.pem"      # of the gateway; the next one may stand in the same file
    enterprise_number = "0406798006"          # of the sender, also when a processor sends for it
    profile = "burgerzaken"                   # absent only where the certificate has exactly one
    ovo_code = "OVO002949"                    # only bodies that share enterprise number 0316380841 have one
    certificate = "sender.pem"                # ours, for TLS
    key = "sender.key"
    signing_certificate = "signing.pem"       # absent: the same as for TLS
    signing_key = "signing.key"
    dialect = "xml"                           # of the message: xml (also when absent) or jws, JSON Web Signature

Paths start at the file's own folder.
"""

import difflib
import ssl
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.client.problems import ClientError
from gateway.crypto.certs import CertificateRejected, load_certificates, require_digital_signature, require_strong_key
from gateway.crypto.crls import is_authority
from gateway.crypto.dialects import Dialect
from gateway.crypto.jwssig import algorithms_of
from gateway.crypto.signing import SigningKey
from gateway.crypto.tls import TlsRefused, client_context
from gateway.crypto.values import WrongValue, gateway_name, one_of
from gateway.domain.ids import (
    EnterpriseNumber,
    InvalidIdentifier,
    parse_enterprise_number,
    parse_ovo_code,
    parse_slug,
)
from gateway.errors import FieldError

__all__ = ["SenderFileInvalid", "SenderProfile", "load_receipt_certificates", "load_sender"]

_T = TypeVar("_T")
_REQUIRED: Final = ("base_url", "gateway", "receipt_certificate", "enterprise_number", "certificate", "key")
_OPTIONAL: Final = ("ca", "profile", "ovo_code", "signing_certificate", "signing_key", "dialect")


@dataclass(eq=False)
class SenderFileInvalid(ClientError):
    """The sender's file cannot be used: every mistake, with its place and its fix."""

    errors: list[FieldError]

    def __str__(self) -> str:
        """Return the mistakes as text for a person."""
        return "\n".join(f"{error.pointer}: {error.detail}" for error in self.errors)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class SenderProfile:
    """
    Everything that a `GatewayClient` needs to speak for a sender.

    `tls` shows the sender's certificate and trusts the gateway's authority. Receipts must be signed by one of
    `receipt_certificates`. Messages are written and signed in `dialect`.
    """

    base_url: str
    gateway: str
    tls: ssl.SSLContext
    enterprise_number: EnterpriseNumber
    profile: str | None
    tls_certificate: x509.Certificate
    signing_certificate: x509.Certificate
    signing_key: SigningKey
    receipt_certificates: tuple[x509.Certificate, ...]
    ovo_code: str | None = None
    dialect: Dialect = Dialect.XML


def load_sender(file: Path, dialect: Dialect | None = None) -> SenderProfile:
    """
    Read `sender.toml` and the files that it names; a `dialect` takes the place of the one in there. Blocks.

    Raises:
        SenderFileInvalid: with every mistake at once.
    """
    errors: list[FieldError] = []
    found = _Reader(file, errors)
    number = found.value("enterprise_number", parse_enterprise_number)
    gateway = found.value("gateway", gateway_name)
    base_url = found.value("base_url", _https_url)
    profile = found.value("profile", parse_slug)
    ovo_code = found.value("ovo_code", parse_ovo_code)
    dialect = dialect or found.value("dialect", one_of(Dialect)) or Dialect.XML
    receipt_certificates = found.content("receipt_certificate", load_receipt_certificates)
    tls_certificate = found.content("certificate", _load_leaf)
    found.require_pair("signing_certificate", "signing_key")
    signer = "signing_" if found.states("signing_certificate") else ""
    certificate = found.content(f"{signer}certificate", _load_signer)
    key = found.content(f"{signer}key", _load_key)
    if certificate is not None and key is not None and certificate.public_key() != key.public_key():
        found.wrong(f"{signer}key", f"is not the key of {signer}certificate")
    if dialect is Dialect.JWS and key is not None and not algorithms_of(key):
        found.wrong("dialect", f"jws takes RSA from 2048 bits, P-256 and P-384; with this {signer}key use xml")
    tls = found.tls()
    if (
        errors
        or number is None
        or gateway is None
        or base_url is None
        or receipt_certificates is None
        or tls is None
        or tls_certificate is None
        or certificate is None
        or key is None
    ):
        raise SenderFileInvalid(errors)
    return SenderProfile(
        base_url=base_url,
        gateway=gateway,
        tls=tls,
        enterprise_number=number,
        profile=profile,
        tls_certificate=tls_certificate,
        signing_certificate=certificate,
        signing_key=key,
        receipt_certificates=receipt_certificates,
        ovo_code=ovo_code,
        dialect=dialect,
    )


def load_receipt_certificates(file: Path) -> tuple[x509.Certificate, ...]:
    """
    Return the certificates that may sign receipts: those in the file that are no authority's. Blocks.

    Raises:
        ValueError: there is none, with the reason.
        OSError: the file cannot be read.
    """
    found = tuple(each for each in _load_certificates(file) if not is_authority(each))
    if not found:
        raise ValueError("holds authorities only; the receipt certificate itself is needed")
    return found


class _Reader:
    """Reads the keys of the file and notes everything wrong; no value is repeated in the notes."""

    def __init__(self, file: Path, errors: list[FieldError]) -> None:
        self._file = file
        self._errors = errors
        self._values = self._read()

    def states(self, key: str) -> bool:
        return key in self._values

    def wrong(self, key: str, detail: str) -> None:
        """Note a mistake at a key, or with an empty one at the file; one for each is enough."""
        pointer = f"{self._file}: {key}" if key else str(self._file)
        if pointer not in {error.pointer for error in self._errors}:
            self._errors.append(FieldError(pointer=pointer, detail=detail))

    def value(self, key: str, parse: Callable[[str], _T]) -> _T | None:
        """Return a value; None when it is absent, and with a note when it is wrong."""
        if key not in self._values:
            return None
        try:
            return parse(self._values[key])
        except (InvalidIdentifier, WrongValue) as exc:
            self.wrong(key, str(exc))
            return None

    def content(self, key: str, load: Callable[[Path], _T]) -> _T | None:
        """Return what is in the file that a key names; None when it is absent, and with a note when it is wrong."""
        path = self.path(key)
        if path is None:
            return None
        try:
            return load(path)
        except OSError as exc:
            self.wrong(key, f"{path} cannot be read: {exc.strerror or type(exc).__name__}")
        except ValueError as exc:
            self.wrong(key, f"{path} {exc}")
        return None

    def path(self, key: str) -> Path | None:
        return self._file.parent / self._values[key] if key in self._values else None

    def tls(self) -> ssl.SSLContext | None:
        """Return the context of `certificate`, `key` and `ca`; None, with a note, where they make none."""
        certificate, key = self.path("certificate"), self.path("key")
        noted = {error.pointer for error in self._errors}
        if certificate is None or key is None or noted & {f"{self._file}: certificate", f"{self._file}: key"}:
            return None
        try:
            return client_context(self.path("ca"), certificate, key)
        except TlsRefused as exc:
            self.wrong("", str(exc))
            return None

    def require_pair(self, one: str, other: str) -> None:
        if self.states(one) != self.states(other):
            self.wrong(one if self.states(other) else other, f"is missing: {one} and {other} come together")

    def _read(self) -> dict[str, str]:
        try:
            values: Mapping[str, Any] = tomllib.loads(self._file.read_text("utf-8"))
        except OSError as exc:
            self.wrong("", f"cannot be read: {exc.strerror or type(exc).__name__}")
            return {}
        except UnicodeDecodeError:
            self.wrong("", "is not UTF-8")
            return {}
        except tomllib.TOMLDecodeError as exc:
            self.wrong("", f"is not TOML: {exc}")
            return {}
        for key in sorted(values.keys() - {*_REQUIRED, *_OPTIONAL}):
            near = difflib.get_close_matches(key, (*_REQUIRED, *_OPTIONAL), n=1)
            self.wrong(key, f"is not known here; did you mean {near[0]}?" if near else "is not known here")
        for key in _REQUIRED:
            if key not in values:
                self.wrong(key, "is missing")
        texts: dict[str, str] = {}
        for key, value in values.items():
            if isinstance(value, str) and value:
                texts[key] = value
            elif key in (*_REQUIRED, *_OPTIONAL):
                self.wrong(key, "must be text, in quotes")
        return texts


def _https_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        whole = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        whole = None
        parts = urlsplit("")
    if not whole or parts.query or parts.fragment or parts.username is not None:
        raise WrongValue("must be an address such as https://gateway.example.be:8443")
    return text.rstrip("/")


def _load_certificates(file: Path) -> tuple[x509.Certificate, ...]:
    try:
        return load_certificates(file)
    except CertificateRejected as exc:
        raise ValueError(f"is refused: {exc.detail}") from exc


def _load_leaf(file: Path) -> x509.Certificate:
    return _load_certificates(file)[0]


def _load_signer(file: Path) -> x509.Certificate:
    certificate = _load_leaf(file)
    try:
        require_strong_key(certificate, ed25519_allowed=False)
        require_digital_signature(certificate)
    except CertificateRejected as exc:
        raise ValueError(f"cannot sign messages: {exc.detail}") from exc
    return certificate


def _load_key(file: Path) -> SigningKey:
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except TypeError:
        raise ValueError("is encrypted; an unencrypted key in a file that only its owner can read is needed") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is no private key in PEM") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ValueError("holds neither an RSA nor an EC key")  # noqa: TRY004 - what is wrong is a file, not a type
    return key
