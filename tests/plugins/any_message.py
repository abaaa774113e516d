"""Hypothesis strategies of messages: whatever the rules of the fields let through."""

import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from gateway.domain.ids import EnterpriseNumber, Ssin, holds_ssin
from gateway.domain.message import (
    Channel,
    DocumentEntry,
    Lane,
    Message,
    PostalAddress,
    PrintOptions,
    PrintProduct,
    Recipient,
)


def texts(longest: int) -> st.SearchStrategy[str]:
    turning = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufffe\uffff"
    signs = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters=turning)
    normal: Callable[[str], str] = lambda text: unicodedata.normalize("NFC", text).strip()[:longest].strip()  # noqa: E731 - one mapping
    return st.text(signs, min_size=1, max_size=longest).map(normal).filter(bool)


def matching(pattern: str) -> st.SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True)


SLUGS = matching(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
NUMBERS = st.integers(0, 19_999_999).map(lambda number: EnterpriseNumber(f"{number:08}{97 - number % 97:02}"))
PERSONS = st.integers(1, 998).map(lambda serial: Ssin(f"906101{serial:03}{97 - int(f'906101{serial:03}') % 97:02}"))
ADDRESSES = st.builds(
    PostalAddress,
    name=texts(70),
    street=texts(70),
    house_number=texts(15),
    box=st.none() | texts(15),
    postcode=st.integers(1000, 9999).map(str),
    municipality=texts(70),
    country=st.sampled_from(["BE", "NL", "XK"]),
)
ENTRIES = st.builds(
    DocumentEntry,
    part=st.just("upfile1"),
    filename=texts(255).filter(lambda name: name not in (".", "..") and not set("/\\") & set(name)),
    media_type=st.sampled_from(["application/pdf", "text/plain", "application/vnd.ms-x+xml"]),
    size_bytes=st.integers(1, 10**12 - 1),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    main=st.just(True),
    signed=st.booleans(),
)
INSTANTS = st.datetimes(datetime(1, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive by Hypothesis's rule


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Any message with one document, to anybody."""
    company = draw(st.none() | NUMBERS)
    shared = draw(st.booleans())
    later = draw(INSTANTS)
    return Message(
        gateway=draw(matching(r"[!-~]{1,253}")),
        reference=draw(matching(r"[A-Za-z0-9._-]{1,64}").filter(lambda text: not holds_ssin(text))),
        created_at=draw(INSTANTS),
        sender=EnterpriseNumber("0316380841") if shared else draw(NUMBERS),
        ovo_code=draw(matching(r"OVO[0-9]{6}")) if shared else None,
        profile=draw(st.none() | SLUGS),
        category=draw(SLUGS),
        purpose=draw(texts(200)),
        recipient=Recipient(
            ssin=None if company else draw(PERSONS), enterprise_number=company, address=draw(st.none() | ADDRESSES)
        ),
        attention_of=draw(st.none() | texts(100)) if company else None,
        subject=draw(texts(400)),
        language=draw(st.sampled_from(["nl", "fr", "de", "en"])),
        channels=tuple(draw(st.lists(st.sampled_from(Channel), unique=True))),
        print_options=draw(st.none() | st.builds(PrintOptions, product=st.sampled_from(PrintProduct))),
        retention=draw(st.none() | st.integers(1, 99_999).map(lambda days: timedelta(days=days))),
        deliver_not_before=draw(st.none() | st.just(later)),
        deliver_before=draw(st.none() | st.just(later + timedelta(microseconds=1))),
        lane=draw(st.none() | st.sampled_from(Lane)),
        billing_reference=draw(st.none() | texts(64).filter(lambda text: not holds_ssin(text))),
        documents=(draw(ENTRIES),),
    )
