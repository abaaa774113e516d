"""
The secrets by which the recipient of a paper letter fetches its digital copy.

They stand in clear on the sealed cover page and nowhere else; the ledger keeps keyed hashes, made with the blind index
of purpose "portal" (`HMAC-SHA-256(K_v, label 00 field …)`), whose old versions stay for as long as letters need them:

    token   26 of a-z 0-9 without i l o u (130 random bits)   label "dgw.token",  field: the token
    number  16 random digits                                  label "dgw.number", field: the number
    code    8 of A-Z 0-9 without I L O U (40 random bits)     label "dgw.code",   fields: delivery id (32 hex), the code

Token or number finds the letter, the code opens it. Whoever types them is met half-way: case, spaces and hyphens do not
matter, O is read as 0, I and L as 1 (Crockford's base 32).
"""

import hmac
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from gateway.crypto.vault import BlindIndex
from gateway.domain.ids import DeliveryId, MessageId
from gateway.stores.model import RetrievalRecord

LABEL_TOKEN: Final = "dgw.token"  # noqa: S105 the label of a keyed hash, no secret
LABEL_NUMBER: Final = "dgw.number"
LABEL_CODE: Final = "dgw.code"

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_DIGITS: Final = "0123456789"
_ALIKE: Final = str.maketrans({"O": "0", "I": "1", "L": "1"})

_TOKEN_LENGTH: Final = 26
_NUMBER_LENGTH: Final = 16
_CODE_LENGTH: Final = 8
_LONGEST_TYPED: Final = 200
_GROUP: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RetrievalSecrets:
    """What one cover page tells, in the canonical spelling that is hashed; `repr` is hidden."""

    token: str
    number: str
    code: str

    @property
    def shown_token(self) -> str:
        """The token as it is printed and put into an address."""
        return _grouped(self.token, "-")

    @property
    def shown_number(self) -> str:
        """The number as it is printed: `1234 5678 9012 3456`."""
        return _grouped(self.number, " ")

    @property
    def shown_code(self) -> str:
        """The code as it is printed: `7K3M-9XQ2`."""
        return _grouped(self.code, "-")


def new_secrets() -> RetrievalSecrets:
    """Return fresh secrets from the system's source of randomness."""
    return RetrievalSecrets(
        token=_random(ALPHABET, _TOKEN_LENGTH).lower(),
        number=_random(_DIGITS, _NUMBER_LENGTH),
        code=_random(ALPHABET, _CODE_LENGTH),
    )


def parse_token(typed: str) -> str | None:
    """Return the token in canonical spelling, or None when this can be none."""
    canonical = _canonical(typed, ALPHABET, _TOKEN_LENGTH)
    return canonical.lower() if canonical is not None else None


def parse_number(typed: str) -> str | None:
    """Return the sixteen digits of a letter's number, or None when this can be none."""
    return _canonical(typed, _DIGITS, _NUMBER_LENGTH)


def parse_code(typed: str) -> str | None:
    """Return the code in canonical spelling, or None when this can be none."""
    return _canonical(typed, ALPHABET, _CODE_LENGTH)


def show_number(number: str) -> str:
    """Return a canonical number as it is printed."""
    return _grouped(number, " ")


def retrieval_record(
    made: RetrievalSecrets, index: BlindIndex, *, delivery_id: DeliveryId, message_id: MessageId, at: datetime
) -> RetrievalRecord:
    """Return what the ledger keeps of a letter's secrets; `index` is the blind index of purpose "portal"."""
    return RetrievalRecord(
        delivery_id=delivery_id,
        message_id=message_id,
        token_hash=index.of(LABEL_TOKEN, made.token),
        number_hash=index.of(LABEL_NUMBER, made.number),
        code_hash=index.of(LABEL_CODE, delivery_id.hex, made.code),
        index_version=index.version,
        created_at=at,
    )


def token_candidates(index: BlindIndex, token: str) -> list[tuple[int, bytes]]:
    """Return what `Ledger.retrieval` finds a canonical token by, the newest version first."""
    return index.candidates(LABEL_TOKEN, token)


def number_candidates(index: BlindIndex, number: str) -> list[tuple[int, bytes]]:
    """Return what `Ledger.retrieval` finds a canonical number by, the newest version first."""
    return index.candidates(LABEL_NUMBER, number)


def code_opens(record: RetrievalRecord, index: BlindIndex, code: str) -> bool:
    """Tell, in a time that says nothing about the code, whether a canonical code is this letter's."""
    for version, value in index.candidates(LABEL_CODE, record.delivery_id.hex, code):
        if version == record.index_version:
            return hmac.compare_digest(value, record.code_hash)
    return False


def decoy(index: BlindIndex, at: datetime) -> RetrievalRecord:
    """Return a record that no code opens, so that a letter that does not exist costs the work of one that does."""
    return RetrievalRecord(
        delivery_id=DeliveryId(UUID(bytes=secrets.token_bytes(16))),
        message_id=MessageId(UUID(bytes=secrets.token_bytes(16))),
        token_hash=b"",
        number_hash=b"",
        code_hash=secrets.token_bytes(32),
        index_version=index.version,
        created_at=at,
    )


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _canonical(typed: str, alphabet: str, length: int) -> str | None:
    """Undo what people and keyboards do to characters; None unless exactly `length` of `alphabet` are left."""
    if len(typed) > _LONGEST_TYPED:
        return None
    folded = unicodedata.normalize("NFKC", typed).upper().translate(_ALIKE)
    bare = "".join(character for character in folded if not _is_separator(character))
    return bare if len(bare) == length and set(bare) <= set(alphabet) else None


def _is_separator(character: str) -> bool:
    return character.isspace() or character in "._" or unicodedata.category(character) in ("Pd", "Cf")


def _grouped(text: str, separator: str) -> str:
    return separator.join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))
