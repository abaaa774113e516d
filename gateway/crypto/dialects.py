"""
The two dialects of a message, XML and JSON Web Signature: which is which, and what is done with either alike.

Everything behind this module knows a `Message` and nothing of the dialect it came in, but for the octets that are kept,
and for the pointers in an error, which lead into what the sender wrote.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from cryptography import x509

from gateway.crypto.fields import Path, json_pointer, message_from_json
from gateway.crypto.jws import strict_json
from gateway.crypto.jwssig import MESSAGE_CONTENT, payload_of_stored, verify_compact
from gateway.crypto.manifest import MESSAGE_ROOT, message_json, read_message, write_message, xml_pointer
from gateway.crypto.schema import read_schema
from gateway.crypto.signing import SigningKey, sign_compact, sign_message
from gateway.crypto.xmlsig import SignerCheck, has_signature, parse_stored, verify_enveloped
from gateway.domain.message import Message
from gateway.errors import Refusal

__all__ = ["Dialect", "is_json", "is_signed", "is_token", "pointer_in", "read_stored", "sign_in", "verify_message"]


class Dialect(StrEnum):
    """How a message is written and signed."""

    XML = "xml"
    JWS = "jws"

    @property
    def media_type(self) -> str:
        """The type of the `message` part."""
        return _MEDIA_TYPES[self]


_MEDIA_TYPES: Final = {Dialect.XML: "application/xml", Dialect.JWS: "application/jose"}
_POINTERS: Final[dict[Dialect, Callable[[Path], str]]] = {Dialect.XML: xml_pointer, Dialect.JWS: json_pointer}


def verify_message(part: bytes, dialect: Dialect, *, signer: SignerCheck, allow_test_ssin: bool) -> Message | Refusal:
    """
    Return the message that a valid signature covers, or the refusal that says why what it covers is none.

    Raises:
        Refusal: the signature does not hold, or nobody could know what it is of: malformed-message, invalid-message,
            signature-invalid, or what `signer` raised.
    """
    if dialect is Dialect.JWS:
        fields = verify_compact(part, content=MESSAGE_CONTENT, signer=signer).fields
        try:
            return message_from_json(fields, allow_test_ssin=allow_test_ssin)
        except Refusal as refusal:
            return refusal
    signed = verify_enveloped(part, schema=read_schema("message.xsd"), root_name=MESSAGE_ROOT, signer=signer)
    try:
        return read_message(signed.root, allow_test_ssin=allow_test_ssin)
    except Refusal as refusal:
        return refusal


def read_stored(part: bytes) -> Message:
    """
    Return the message of a part that was verified before it was stored, whichever its dialect; verifies nothing.

    The octets tell: XML begins with `<`, white space or a byte order mark, none of which is in base64url; JSON, which
    only a message of a batch is kept in, begins with a brace.

    Raises:
        Refusal: it is none of these.
    """
    if is_token(part):
        return message_from_json(payload_of_stored(part), allow_test_ssin=True)
    if is_json(part):
        return message_from_json(strict_json(part), allow_test_ssin=True)
    return read_message(parse_stored(part), allow_test_ssin=True)


def is_token(part: bytes) -> bool:
    """Tell whether a signed part begins as a compact JWS does, and so is no XML."""
    return part[:1].isalnum() or part[:1] in (b"-", b"_")


def is_signed(part: bytes) -> bool:
    """Tell whether a part that the gateway stored carries a signature of its own; a message of a batch does not."""
    return is_token(part) or (not is_json(part) and has_signature(part))


def is_json(part: bytes) -> bool:
    """Tell whether a part begins as a JSON object does, without anything before its brace."""
    return part[:1] == b"{"


def sign_in(dialect: Dialect, message: Message, key: SigningKey, certificate: x509.Certificate) -> bytes:
    """
    Return the `message` part: a message signed by its sender.

    Raises:
        ValueError: the key is not that of the certificate, or of a kind that the dialect does not take.
    """
    if dialect is Dialect.JWS:
        return sign_compact(message_json(message), key, certificate, content=MESSAGE_CONTENT)
    return sign_message(write_message(message), key, certificate)


def pointer_in(dialect: Dialect, path: Path) -> str:
    """Return the way to a field as the dialect writes it: `/Message/Subject/@lang` or `/subject/lang`."""
    return _POINTERS[dialect](path)
