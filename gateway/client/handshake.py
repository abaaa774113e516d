"""
Finding out whether a gateway refuses our certificate.

With TLS 1.3 (RFC 8446, section 4.4.2.4) a client has finished its handshake before the server has judged its
certificate. A refusal shows only as a lost connection, and to the HTTP library one lost connection is like another. So
after such a loss one more connection is made, on which nothing is asked: a gateway that took the certificate waits for
a request, one that refused it hangs up without the words of farewell that TLS has.
"""

import re
import socket
import ssl
from datetime import datetime
from typing import Final

from cryptography import x509

from gateway.crypto.certs import CertificateRejected, require_client_auth, require_current, require_strong_key

__all__ = ["own_fault", "refusal"]

_ALERT: Final = re.compile(r"_ALERT_(.+)\Z")
_ABOUT_CERTIFICATES: Final = frozenset(
    {
        "access-denied",
        "bad-certificate",
        "certificate-expired",
        "certificate-required",
        "certificate-revoked",
        "certificate-unknown",
        "unknown-ca",
        "unsupported-certificate",
    }
)


def refusal(host: str, port: int, context: ssl.SSLContext, *, connect_timeout_s: float, wait_s: float) -> str | None:
    """
    Return why the server refuses the certificate of `context`, or None where nothing shows that it does. Blocks.

    The reason is the TLS alert, `certificate-expired`, or empty when the server hung up without one, twice: once may be
    a server that dies in this moment. One that says nothing for `wait_s` seconds is waiting for our request, so the
    certificate is not what ails it.
    """
    first = _reason(host, port, context, connect_timeout_s, wait_s)
    return _reason(host, port, context, connect_timeout_s, wait_s) if first == "" else first


def _reason(host: str, port: int, context: ssl.SSLContext, connect_timeout_s: float, wait_s: float) -> str | None:
    try:
        with (
            socket.create_connection((host, port), connect_timeout_s) as raw,
            context.wrap_socket(raw, server_hostname=host, suppress_ragged_eofs=False) as connection,
        ):
            return _verdict(connection, wait_s)
    except OSError as exc:  # ssl.SSLError is one
        return _alert(exc)


def own_fault(certificate: x509.Certificate, now: datetime) -> str | None:
    """Return what a certificate itself shows to be wrong with it as a client's, in words; None: nothing."""
    try:
        require_current(certificate, now)
        require_strong_key(certificate, ed25519_allowed=True)
        require_client_auth(certificate)
    except CertificateRejected as exc:
        return f"unfit for a client: {exc}"
    return None


def _verdict(connection: ssl.SSLSocket, wait_s: float) -> str | None:
    connection.settimeout(wait_s)
    try:
        connection.recv(1)
    except TimeoutError:
        return None
    except (ssl.SSLEOFError, ConnectionError):
        return ""
    return None  # a proper farewell (the server is busy or stopping), or words that nobody asked for


def _alert(error: OSError) -> str | None:
    found = _ALERT.search(error.reason or "") if isinstance(error, ssl.SSLError) else None
    alert = found[1].lower().replace("_", "-") if found else ""
    return alert if alert in _ABOUT_CERTIFICATES else None
