"""The forms in which a message can be handed over, and how a sender signs each."""

from enum import StrEnum
from typing import Final

from gateway.client import SenderProfile
from gateway.crypto import dialects
from gateway.domain.message import Message
from load.problems import CannotRun


class Dialect(StrEnum):
    """As `--dialect` names them; a batch is many messages under one signature."""

    XML = "xml"
    JWS = "jws"
    BATCH = "batch"


# Media type of the signed part, and its octets.
Signed = tuple[str, bytes]

# Those of single messages; batches need requests of another shape, which are not made here.
_SINGLE: Final = {Dialect.XML: dialects.Dialect.XML, Dialect.JWS: dialects.Dialect.JWS}


def is_available(dialect: Dialect) -> bool:
    """Tell whether requests can be prepared in this form."""
    return dialect in _SINGLE


def require_available(dialect: Dialect) -> None:
    """
    Return when `is_available`.

    Raises:
        CannotRun: it is not.
    """
    if not is_available(dialect):
        raise CannotRun(f"dialect {dialect}: not available")


def sign(dialect: Dialect, message: Message, sender: SenderProfile) -> Signed:
    """
    Return the signed part of a message.

    Raises:
        CannotRun: as `require_available`.
    """
    require_available(dialect)
    single = _SINGLE[dialect]
    return single.media_type, dialects.sign_in(single, message, sender.signing_key, sender.signing_certificate)
