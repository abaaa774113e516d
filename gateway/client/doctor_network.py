"""
The second part of an examination: the way to the gateway, step by step, up to who answers there.

Nothing is asked on these connections: they end with the TLS handshake.
"""

import asyncio
import errno
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509

from gateway.client.findings import Check, Finding, failed, of_validity, ok, skipped, warning
from gateway.client.problems import harmless
from gateway.crypto.certs import CertificateRejected, parse_certificate
from gateway.crypto.crls import extension_of

__all__ = ["ALERTS_ABOUT_CERTIFICATES", "Destination", "examine_way"]

# The alerts of RFC 8446, section 6.2, with which a server refuses a client's certificate.
ALERTS_ABOUT_CERTIFICATES: Final = {
    "access-denied": "it knows the certificate, and lets it in nowhere",
    "bad-certificate": "it finds the certificate broken, or not yet valid",
    "certificate-expired": "it finds the certificate expired, or has no revocation list in force for it",
    "certificate-required": "it was shown no certificate",
    "certificate-revoked": "the certificate's authority has withdrawn it",
    "certificate-unknown": "it finds the certificate unacceptable, and does not say why",
    "unknown-ca": "it does not know the authority that issued the certificate",
    "unsupported-certificate": "the certificate is for another purpose than that of a TLS client",
}

_ALERT: Final = re.compile(r"_ALERT_(.+)\Z")
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"})
_VERIFY_DATES: Final = {9: "is not yet valid", 10: "has expired"}  # X509_V_ERR_… of OpenSSL's x509_vfy.h
_VERIFY_OTHER_NAME: Final = frozenset({62, 64})  # of a host; of an IP address
_SERVER_SOON: Final = timedelta(days=7)
_NAMES_SHOWN: Final = 4
_MODERN: Final = "TLSv1.3"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Destination:
    """
    Where the gateway is said to be. `trust` is the TLS context to verify it with, None where `ca` cannot be used.

    `trusted_by` is the name of the file with the authorities; None: those of the system.
    """

    host: str
    port: int
    trust: ssl.SSLContext | None
    trusted_by: str | None
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Greeting:
    version: str
    certificate: x509.Certificate | None  # None: it cannot be read in full


async def examine_way(to: Destination, now: datetime) -> AsyncIterator[Finding]:
    """Find the way: name, connection, TLS version, the gateway's certificate. After a failure the rest is skipped."""
    lookup = await _look_up(to)
    yield lookup
    if lookup.unreachable:
        yield skipped(Check.CONNECTION, "the gateway's address is not known")
        yield skipped(Check.TLS_VERSION, "there is no connection")
        yield skipped(Check.SERVER_CERTIFICATE, "there is no connection")
        return
    connection = await asyncio.to_thread(_connect, to)
    yield connection
    if connection.unreachable:
        yield skipped(Check.TLS_VERSION, "there is no connection")
        yield skipped(Check.SERVER_CERTIFICATE, "there is no connection")
        return
    for finding in await asyncio.to_thread(_greet, to, now):
        yield finding


# ── Name and connection ──


async def _look_up(to: Destination) -> Finding:
    try:
        return ok(Check.NAME_LOOKUP, f"{ip_address(to.host)} is an address; there is nothing to look up")
    except ValueError:
        pass  # a name
    try:
        async with asyncio.timeout(to.timeout_s):
            found = await asyncio.get_running_loop().getaddrinfo(to.host, to.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        why, fix = f"no name server answered within {to.timeout_s:g} s", "check this machine's name servers"
    except socket.gaierror as exc:
        if exc.errno == socket.EAI_AGAIN:
            why, fix = "the name servers do not answer", "check this machine's name servers and its network"
        else:
            why, fix = (
                "there is no such name",
                "check base_url; inside a closed network, check which name servers are used",
            )
    except (OSError, UnicodeError):
        why, fix = "this cannot be looked up", "check base_url"
    else:
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        return ok(Check.NAME_LOOKUP, f"{to.host} is {', '.join(addresses)}", {"addresses": addresses})
    return failed(Check.NAME_LOOKUP, f"{to.host}: {why}", fix, unreachable=True)


def _connect(to: Destination) -> Finding:
    started_s = time.monotonic()
    try:
        with socket.create_connection((to.host, to.port), to.timeout_s) as raw:
            milliseconds = round((time.monotonic() - started_s) * 1_000, 1)
            address = str(raw.getpeername()[0])
    except ConnectionRefusedError:
        why = "refuses connections: nothing listens there"
        fix = "check the port in base_url, and ask the gateway's operator whether it runs"
    except TimeoutError:
        why = f"says nothing within {to.timeout_s:g} s"
        fix = "ask for the way to be opened: a firewall that drops packets looks like this"
    except OSError as exc:
        why = f"cannot be reached ({errno.errorcode.get(exc.errno or 0, 'reason unknown')})"
        fix = "check this machine's network, and the firewalls on the way"
    else:
        return ok(
            Check.CONNECTION,
            f"port {to.port} of {address} answers in {milliseconds} ms",
            {"milliseconds": milliseconds},
        )
    return failed(Check.CONNECTION, f"port {to.port} of {to.host} {why}", fix, unreachable=True)


# ── TLS ──


def _greet(to: Destination, now: datetime) -> tuple[Finding, Finding]:
    """Make a TLS handshake, and judge its version and the certificate of the other side."""
    if to.trust is None:
        why = "whom to trust cannot be read"
        return skipped(Check.TLS_VERSION, why), skipped(Check.SERVER_CERTIFICATE, why)
    try:
        greeting = _handshake(to, to.trust)
    except ssl.SSLCertVerificationError as exc:
        shown = _look(to)
        version = (
            skipped(Check.TLS_VERSION, "the certificate of the other side is not trusted")
            if shown is None
            else _of_version(shown.version)
        )
        return version, _of_distrust(to, exc, shown)
    except OSError as exc:  # ssl.SSLError is one
        if _alert(exc) in ALERTS_ABOUT_CERTIFICATES:
            # Until TLS 1.2 the server judges our certificate within the handshake, when we have judged its own.
            return _of_version("TLSv1.2"), ok(Check.SERVER_CERTIFICATE, f"trusted by {_authority(to)}")
        return _of_no_tls(to, exc), skipped(Check.SERVER_CERTIFICATE, "there is no TLS")
    return _of_version(greeting.version), _of_trust(to, greeting.certificate, now)


def _of_version(version: str) -> Finding:
    shown = version.replace("TLSv", "TLS ")
    if version == _MODERN:
        return ok(Check.TLS_VERSION, shown, {"version": version})
    return warning(
        Check.TLS_VERSION,
        f"{shown}, though this program speaks 1.3",
        "look for a proxy on the way that opens TLS: it can never show the gateway your certificate; "
        "else the gateway is an old one",
        {"version": version},
    )


def _of_no_tls(to: Destination, exc: OSError) -> Finding:
    alert = _alert(exc)
    reason = exc.reason if isinstance(exc, ssl.SSLError) else None
    if isinstance(exc, TimeoutError):
        why = f"the other side says nothing to a TLS greeting within {to.timeout_s:g} s"
        return failed(Check.TLS_VERSION, why, "ask the gateway's operator whether it runs", unreachable=True)
    if reason in _NO_TLS:
        return failed(Check.TLS_VERSION, "what answers at this port does not speak TLS", "check the port in base_url")
    if alert:
        why = f"the other side refuses any TLS that this program speaks (alert {alert})"
        return failed(Check.TLS_VERSION, why, "check base_url: this is not how a gateway answers", {"alert": alert})
    why = "the connection is cut off at the TLS greeting"
    fix = "ask who runs the firewall or proxy on the way; else the gateway has no room for more connections now"
    return failed(Check.TLS_VERSION, why, fix, unreachable=True)


def _of_trust(to: Destination, certificate: x509.Certificate | None, now: datetime) -> Finding:
    if certificate is None:
        return ok(Check.SERVER_CERTIFICATE, f"trusted by {_authority(to)}")
    return of_validity(
        Check.SERVER_CERTIFICATE,
        certificate,
        now,
        fix="tell the gateway's operator, who has to renew it",
        soon=_SERVER_SOON,
        prefix=f"for {_names(certificate)}, trusted by {_authority(to)}, ",
    )


def _of_distrust(to: Destination, exc: ssl.SSLCertVerificationError, shown: _Greeting | None) -> Finding:
    certificate = None if shown is None else shown.certificate
    names = "" if certificate is None else f" It is for {_names(certificate)}."
    dates = _VERIFY_DATES.get(exc.verify_code)
    if exc.verify_code in _VERIFY_OTHER_NAME:
        why = f"the certificate of the other side is not for {to.host}.{names}"
        fix = "name the gateway in base_url as its certificate does"
    elif dates is not None:
        why = f"the certificate of the other side, or of an authority of it, {dates}.{names}"
        fix = "tell the gateway's operator; if this machine's clock is wrong, set it right"
    else:
        issuer = "" if certificate is None else f" {harmless(certificate.issuer.rfc4514_string())} issued it."
        why = f"the certificate of the other side is not of {_authority(to)} ({exc.verify_message}).{names}{issuer}"
        fix = (
            "ask the gateway's operator for the certificate of its authority, and name its file in ca; "
            "never take it from this connection"
        )
    return failed(Check.SERVER_CERTIFICATE, why, fix)


def _authority(to: Destination) -> str:
    return to.trusted_by or "the system's authorities"


def _handshake(to: Destination, context: ssl.SSLContext) -> _Greeting:
    with (
        socket.create_connection((to.host, to.port), to.timeout_s) as raw,
        context.wrap_socket(raw, server_hostname=to.host, suppress_ragged_eofs=False) as connection,
    ):
        encoded = connection.getpeercert(binary_form=True) or b""
        version = connection.version() or ""
    try:
        return _Greeting(version=version, certificate=parse_certificate(encoded))
    except CertificateRejected:
        return _Greeting(version=version, certificate=None)


def _look(to: Destination) -> _Greeting | None:
    """Return what somebody whom we do not trust shows; we show nothing, and say nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return _handshake(to, context)
    except OSError:
        return None  # until TLS 1.2 nothing is seen of a server that asks for a certificate


def _alert(exc: OSError) -> str:
    found = _ALERT.search(exc.reason or "") if isinstance(exc, ssl.SSLError) else None
    return found[1].lower().replace("_", "-") if found else ""


def _names(certificate: x509.Certificate) -> str:
    alternative = extension_of(certificate, x509.SubjectAlternativeName)
    names = (
        []
        if alternative is None
        else [str(n.value) for n in alternative if isinstance(n, x509.DNSName | x509.IPAddress)]
    )
    more = [f"{len(names) - _NAMES_SHOWN} more"] if len(names) > _NAMES_SHOWN else []
    return harmless(", ".join([*names[:_NAMES_SHOWN], *more])) if names else "no host at all"
