"""The forms in which messages can be handed over, and how a sender signs each."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from gateway.client import SenderProfile
from gateway.client.batch import prepare_batch
from gateway.client.letter import Letter, describe, message_of
from gateway.crypto import dialects
from gateway.crypto.batches import ITEM_MEDIA_TYPES
from load.bodies import BATCHES, MESSAGES


class Dialect(StrEnum):
    """As `--dialect` names them; a batch is many messages under one signature."""

    XML = "xml"
    JWS = "jws"
    BATCH = "batch"
    BATCH_JWS = "batch-jws"

    @property
    def is_batch(self) -> bool:
        """Tell whether one request holds many messages."""
        return self in {Dialect.BATCH, Dialect.BATCH_JWS}

    @property
    def single(self) -> "Dialect":
        """The form, written alike, in which each message is a request of its own."""
        return {Dialect.BATCH: Dialect.XML, Dialect.BATCH_JWS: Dialect.JWS}.get(self, self)

    @property
    def path(self) -> str:
        """Where requests in this form are to be POSTed."""
        return BATCHES if self.is_batch else MESSAGES


# A part of a request: its name, its media type and its octets.
Part = tuple[str, str, bytes]

_WRITTEN: Final = {Dialect.XML: dialects.Dialect.XML, Dialect.JWS: dialects.Dialect.JWS}


def signed_parts(
    dialect: Dialect, letters: Sequence[Letter], sender: SenderProfile, reference: str, at: datetime
) -> list[Part]:
    """
    Return the parts of the request that hands letters over, but for the documents: the signed part is the first, and
    the unsigned messages of a batch follow. A letter that goes alone is the only one; `reference` is that of a batch.
    """
    written = _WRITTEN[dialect.single]
    if dialect.is_batch:
        prepared = prepare_batch(replace(sender, dialect=written), letters, reference, at)
        items = [(f"m{part.number}", ITEM_MEDIA_TYPES[written], part.message) for part in prepared.parts]
        return [("batch", written.media_type, prepared.sign(at)), *items]
    (letter,) = letters
    message = message_of(
        letter,
        describe(letter.listed()),
        gateway=sender.gateway,
        sender=sender.enterprise_number,
        ovo_code=sender.ovo_code,
        profile=sender.profile,
        created_at=at,
    )
    part = dialects.sign_in(written, message, sender.signing_key, sender.signing_certificate)
    return [("message", written.media_type, part)]
