"""
TLS contexts of every edge (RFC 8446; RFC 5246 with ECDHE and AEAD where old senders need it), and who the peer is.

A finished handshake proves possession of a key and little more: callers judge `peer_certificate` with
`certs.check_tls_client` on every request. All functions that build a context read files and block.
"""

import asyncio
import os
import re
import ssl
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.crypto.certs import CertificateRejected, ClientCa, Rule, parse_certificate
from gateway.errors import GatewayError

TlsMinimum = Literal["1.2", "1.3"]

_VERSIONS: Final[Mapping[TlsMinimum, ssl.TLSVersion]] = {
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
# Only TLS 1.2 chooses from these. The security level holds for 1.3 too: RSA from 2048 bits, no SHA-1, in every chain.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"


@dataclass(eq=False)
class TlsRefused(GatewayError):
    """A TLS context cannot be built safely; nothing listens, nothing connects."""

    detail: str

    def __str__(self) -> str:
        """Return what to mend."""
        return f"TLS: {self.detail}"


def server_context(
    certificate: Path,
    key_file: Path,
    client_cas: Sequence[ClientCa],
    minimum: TlsMinimum,
    *,
    on_handshake_failure: Callable[[str], None],
) -> ssl.SSLContext:
    """
    Build the context of an edge where every client must bring a certificate of one of `client_cas`.

    `on_handshake_failure` gets OpenSSL's reason as a short word such as `certificate-has-expired`, before the
    connection falls; it must not block. OpenSSL checks revocation only if every CA is hard-fail, for its switch covers
    all of them; `check_tls_client` checks it always. TLS 1.3 never resumes. TLS 1.2 may resume by session id, which
    the `ssl` module cannot switch off; the certificate of the first handshake then stands, for `check_tls_client`.

    Raises:
        TlsRefused: no CA; a file is missing, unreadable or encrypted; key and certificate differ; SSLKEYLOGFILE is set.
    """
    if not client_cas:
        raise TlsRefused("no client CA is configured")
    context = _server_base(certificate, key_file, _VERSIONS[minimum])
    context.verify_mode = ssl.CERT_REQUIRED
    _trust(context, [known for ca in client_cas for known in ca.certificates])
    if all(ca.revocation == "hard-fail" for ca in client_cas):
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        _load_crls(context, client_cas)
    context.sslobject_class = _reporting(on_handshake_failure)
    return context


def plain_server_context(certificate: Path, key_file: Path) -> ssl.SSLContext:
    """
    Build the context of an edge for people with browsers: no client certificate, TLS 1.2 or later.

    Raises:
        TlsRefused: as `server_context`.
    """
    return _server_base(certificate, key_file, ssl.TLSVersion.TLSv1_2)


def client_context(
    ca_file: Path | None,
    certificate: Path | None = None,
    key_file: Path | None = None,
    *,
    minimum: TlsMinimum = "1.2",
) -> ssl.SSLContext:
    """
    Build the context of a client that verifies the server's name and, with `certificate`, shows its own.

    `ca_file` None trusts the system's authorities.

    Raises:
        TlsRefused: as `server_context`; or only one of `certificate` and `key_file` is given.
    """
    _refuse_key_log()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # CERT_REQUIRED and check_hostname
    _harden(context, _VERSIONS[minimum])
    if ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as exc:  # ssl.SSLError is one
            raise TlsRefused(f"{ca_file}: {_reason(exc)}") from exc
    if (certificate is None) != (key_file is None):
        raise TlsRefused("a certificate and its key file come together")
    if certificate is not None and key_file is not None:
        _identify(context, certificate, key_file)
    return context


class SwappableContext:
    """
    A server's context whose certificate, trusted authorities and revocation lists can be replaced while it listens.

    `listening` goes to the server. Each new connection takes what was swapped in last, when its ClientHello has
    arrived; those that stand keep what they have. What OpenSSL copies when a connection begins comes from `listening`
    for ever: whether a client certificate is asked for, whether revocation lists are consulted, the versions of TLS.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.listening: Final = context
        self._present = context
        context.sni_callback = self._choose  # called without server_name too

    def require_swappable(self, context: ssl.SSLContext) -> None:
        """
        Return when `context` can take the place of the present one.

        Raises:
            TlsRefused: it differs in what cannot change without a restart.
        """
        if context.verify_flags != self.listening.verify_flags:
            raise TlsRefused(
                "revocation lists are consulted in the handshake when every client CA is hard-fail, and only then; "
                "a change from or to that needs a restart"
            )
        if (context.verify_mode, context.minimum_version) != (
            self.listening.verify_mode,
            self.listening.minimum_version,
        ):
            raise TlsRefused("asking for client certificates and the least version of TLS change with a restart only")

    def swap(self, context: ssl.SSLContext) -> None:
        """
        Use `context` for every connection that begins from now on.

        Raises:
            TlsRefused: as `require_swappable`; the present one stays.
        """
        self.require_swappable(context)
        self._present = context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._present


def peer_certificate(transport: asyncio.BaseTransport) -> x509.Certificate:
    """
    Return the certificate that the peer proved to own.

    Raises:
        CertificateRejected: NO_CERTIFICATE when there is none, or no TLS; UNREADABLE.
    """
    tls = transport.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) if tls is not None else None
    if not der:
        raise CertificateRejected(Rule.NO_CERTIFICATE, "the peer showed none")
    return parse_certificate(der)


def _server_base(certificate: Path, key_file: Path, minimum: ssl.TLSVersion) -> ssl.SSLContext:
    _refuse_key_log()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, minimum)
    # A resumed session skips verification, and one stolen ticket key opens all recorded ones.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    _identify(context, certificate, key_file)
    return context


def _harden(context: ssl.SSLContext, minimum: ssl.TLSVersion) -> None:
    context.minimum_version = minimum
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])


def _refuse_key_log() -> None:
    if "SSLKEYLOGFILE" in os.environ:
        raise TlsRefused("SSLKEYLOGFILE is set: session keys could be written to disk; unset it")


def _identify(context: ssl.SSLContext, certificate: Path, key_file: Path) -> None:
    try:
        # An empty password makes an encrypted key fail, where the default would ask on the terminal and wait.
        context.load_cert_chain(certificate, key_file, password="")
    except OSError as exc:  # ssl.SSLError is one
        raise TlsRefused(
            f"{certificate} and {key_file} are not a PEM certificate and its unencrypted key: {_reason(exc)}"
        ) from exc


def _trust(context: ssl.SSLContext, certificates: Iterable[x509.Certificate]) -> None:
    # As in certs.verified_path, an intermediate configured without its root is an anchor.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=b"".join(known.public_bytes(Encoding.DER) for known in certificates))


def _load_crls(context: ssl.SSLContext, client_cas: Iterable[ClientCa]) -> None:
    lists = b"".join(crl.source.public_bytes(Encoding.PEM) for ca in client_cas for crl in ca.crls)
    if not lists:
        return  # every handshake fails until a list is there: hard-fail means what it says
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:  # OpenSSL takes lists from files only
        file.write(lists)
        file.flush()
        context.load_verify_locations(cafile=file.name)


def _reporting(on_failure: Callable[[str], None]) -> type[ssl.SSLObject]:
    class ReportingSslObject(ssl.SSLObject):
        """
        Reports a failed handshake, and lets its alert reach the peer.

        asyncio breaks a connection off at the first error and throws away the alert that OpenSSL has written. Asking
        for more bytes first makes it send what is waiting; the next byte, the end or the time-out then ends it.
        """

        _failure: ssl.SSLError | None = None

        def do_handshake(self) -> None:
            if self._failure is not None:
                raise self._failure
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as exc:
                on_failure(_reason(exc))
                self._failure = exc
                raise ssl.SSLWantReadError from exc

    return ReportingSslObject


def _reason(error: OSError) -> str:
    """Name an error of OpenSSL or of the file system, without text that a peer chose."""
    if isinstance(error, ssl.SSLCertVerificationError):
        words = error.verify_message
    elif isinstance(error, ssl.SSLError):
        words = error.reason or "unknown"
    else:
        words = error.strerror or type(error).__name__
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
