"""
Identifiers: what they look like, how they are checked, how they are made.

Sources: Belgian national number and BIS number (check 97 - n mod 97, with a leading 2 for births from 2000), KBO/BCE
enterprise number (97 - first eight digits mod 97), OVO code (`OVO` and six digits), UUIDv7 (RFC 9562, section 5.7).
"""

import re
from typing import NewType
from uuid import NAMESPACE_URL, UUID, uuid5

MessageId = NewType("MessageId", UUID)
DeliveryId = NewType("DeliveryId", UUID)
DocumentId = NewType("DocumentId", UUID)
EnterpriseNumber = NewType("EnterpriseNumber", str)
Ssin = NewType("Ssin", str)

_DIGITS_11 = re.compile(r"[0-9]{11}\Z")
_ENTERPRISE = re.compile(r"[01][0-9]{9}\Z")
_OVO = re.compile(r"OVO[0-9]{6}\Z")
_REFERENCE = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_CORRELATION = re.compile(r"[A-Za-z0-9-]{1,36}\Z")
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\Z")
# A personal number as people write it: eleven digits in a row, or grouped as in 85.07.30-033.28; no digit beside it.
_LIKE_SSIN = re.compile(r"(?<![0-9])[0-9]{2}[._-]?[0-9]{2}[._-]?[0-9]{2}[._-]?[0-9]{3}[._-]?[0-9]{2}(?![0-9])")

_FIRST_TEST_MONTH = 61
_LAST_TEST_MONTH = 72
_BIS_SEX_UNKNOWN = 20
_BIS_SEX_KNOWN = 40
_LAST_MONTH = 12
_LAST_DAY = 31


class InvalidIdentifier(ValueError):
    """The text is no such identifier; the message says which rule failed and never repeats the text."""


def parse_enterprise_number(text: str) -> EnterpriseNumber:
    """
    Return the ten digits of a KBO/BCE number whose check digits hold.

    Raises:
        InvalidIdentifier: not ten digits starting with 0 or 1, or wrong check digits.
    """
    if not _ENTERPRISE.match(text):
        raise InvalidIdentifier("an enterprise number is ten digits, the first 0 or 1")
    if int(text[8:]) != 97 - int(text[:8]) % 97:
        raise InvalidIdentifier("the check digits of the enterprise number are wrong")
    return EnterpriseNumber(text)


def parse_ssin(text: str, *, allow_test: bool) -> Ssin:
    """
    Return the eleven digits of a national or BIS number whose check digits hold.

    `allow_test` admits months 61 to 72, which test numbers use so that they belong to nobody.

    Raises:
        InvalidIdentifier: not eleven digits, an impossible date part, or wrong check digits.
    """
    if not _DIGITS_11.match(text):
        raise InvalidIdentifier("an SSIN is eleven digits")
    if not _check_digits_hold(text):
        raise InvalidIdentifier("the check digits of the SSIN are wrong")
    month, day = int(text[2:4]), int(text[4:6])
    if _FIRST_TEST_MONTH <= month <= _LAST_TEST_MONTH:
        if not allow_test:
            raise InvalidIdentifier("this SSIN is a test number, which this gateway does not take")
        month -= 60
    elif month >= _BIS_SEX_KNOWN:
        month -= _BIS_SEX_KNOWN
    elif month >= _BIS_SEX_UNKNOWN:
        month -= _BIS_SEX_UNKNOWN
    if month > _LAST_MONTH or day > _LAST_DAY:
        raise InvalidIdentifier("the date in the SSIN is impossible")
    return Ssin(text)


def _check_digits_hold(digits: str) -> bool:
    check = int(digits[9:])
    return check in (97 - int(digits[:9]) % 97, 97 - int("2" + digits[:9]) % 97)


def holds_ssin(text: str) -> bool:
    """
    Tell whether a valid SSIN stands in `text`, as eleven digits or grouped by `.`, `-` and `_` as people write it.

    Longer runs of digits are not searched: one in a hundred of them would hold one by chance.
    """
    for found in _LIKE_SSIN.findall(text):
        try:
            parse_ssin(re.sub(r"[._-]", "", found), allow_test=True)
        except InvalidIdentifier:
            continue
        return True
    return False


def parse_reference(text: str) -> str:
    """
    Return a sender's reference: 1 to 64 of `[A-Za-z0-9._-]`, without a personal number in it.

    Raises:
        InvalidIdentifier: other characters, wrong length, or it holds a valid SSIN.
    """
    if not _REFERENCE.match(text):
        raise InvalidIdentifier("a reference is 1 to 64 characters of A-Z a-z 0-9 . _ -")
    if holds_ssin(text):
        raise InvalidIdentifier("a reference must not hold a personal number; use a number of your own")
    return text


def parse_correlation_id(text: str) -> str:
    """
    Return an `x-correlation-id`: 1 to 36 of `[A-Za-z0-9-]`, without a personal number in it.

    Raises:
        InvalidIdentifier: other characters, wrong length, or it holds a valid SSIN.
    """
    if not _CORRELATION.match(text):
        raise InvalidIdentifier("x-correlation-id is 1 to 36 characters of A-Z a-z 0-9 -")
    if holds_ssin(text):
        raise InvalidIdentifier("x-correlation-id must not hold a personal number")
    return text


def parse_ovo_code(text: str) -> str:
    """
    Return an OVO code, `OVO` and six digits.

    Raises:
        InvalidIdentifier: anything else.
    """
    if not _OVO.match(text):
        raise InvalidIdentifier("an OVO code is OVO and six digits")
    return text


def parse_slug(text: str) -> str:
    """
    Return the id of a profile, category or provider: 1 to 64 of `[a-z0-9-]`, no hyphen at either end.

    Raises:
        InvalidIdentifier: anything else.
    """
    if not _SLUG.match(text):
        raise InvalidIdentifier("an id is 1 to 64 characters of a-z 0-9 -, not starting or ending with -")
    return text


def sender_uuid(number: EnterpriseNumber) -> UUID:
    """Return the UUIDv5 that stands for a sender in sealed blobs and key rows; it never changes."""
    return uuid5(NAMESPACE_URL, f"urn:document-gateway:sender:{number}")


def uuid7(unix_ms: int, random: bytes) -> UUID:
    """Return a UUIDv7 (RFC 9562, section 5.7) of a time in Unix milliseconds and ten random bytes."""
    value = (unix_ms & ((1 << 48) - 1)) << 80 | int.from_bytes(random[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)
