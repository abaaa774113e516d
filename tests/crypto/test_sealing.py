"""Sealed bytes: the published vectors, an independent second implementation, and every way to break a seal."""

import hashlib
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from cryptography.exceptions import AlreadyFinalized
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.crypto.sealing import (
    HEADER_BYTES,
    BlobHeader,
    SealBroken,
    Sealer,
    Unsealer,
    generate_key,
    open_field,
    open_whole,
    seal,
    seal_field,
    seal_whole,
    sealed_size,
    unseal,
    unwrap_key,
    wrap_key,
)

CHUNK = 16_384
DEK = bytes(range(0x20))
KEK = bytes(range(0x20, 0x40))
SALT = bytes(range(0x40, 0x58))
BLOB_ID, DEK_ID, SENDER_ID, KEK_ID = (UUID(bytes=bytes([byte]) * 16) for byte in (0x11, 0x22, 0x33, 0x44))
OTHER_ID = UUID(bytes=b"\x55" * 16)
HEADER = BlobHeader(
    blob_id=BLOB_ID,
    dek_id=DEK_ID,
    sender_id=SENDER_ID,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)
HEADER_HEX = "4447453101010040" + "11" * 16 + "22" * 16 + "33" * 16 + "0000019b76daa800"
BLOB_CONTEXT = b"dgw.blob.v1\0" + bytes.fromhex(HEADER_HEX)
WRAP_CONTEXT = b"dgw.dek.v1\0" + DEK_ID.bytes + SENDER_ID.bytes + KEK_ID.bytes
COMMITMENT_HEX = "7df87784942ab267984666b133c507a116e1924341342cd0f8db4994f16587bf"
WRAPPED_HEX = (
    "404142434445464748494a4b4c4d4e4f5051525354555657"
    "2b6f11ee8625908150aab875fcb6ee98afce29e1b02ad804ad1e9cc39e11344a"
    "efd15ffa133721fddba4347f1821fcddc7a497d43249373530016c29c05b392879672e3ebe117ba844db59a97e906098"
)


def cobblestone(key: bytes, context: bytes, salt: bytes, plaintext: bytes) -> bytes:
    """Seal by the words of the specification, with a salt of our choice; shares nothing with the code under test."""
    label = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
    derived = HKDFExpand(SHA512(), 76, label + salt + context).derive(key)
    aead, nonce, commitment = AESGCM(derived[:32]), int.from_bytes(derived[32:44], "big"), derived[44:]
    chunks = (
        aead.encrypt((nonce ^ k).to_bytes(12, "big"), plaintext[k * CHUNK : (k + 1) * CHUNK], None)
        for k in range(len(plaintext) // CHUNK + 1)
    )
    return salt + commitment + b"".join(chunks)


def open_cobblestone(key: bytes, context: bytes, sealed: bytes) -> bytes:
    """Open by the words of the specification."""
    label = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
    derived = HKDFExpand(SHA512(), 76, label + sealed[:24] + context).derive(key)
    assert sealed[24:56] == derived[44:]
    aead, nonce, body = AESGCM(derived[:32]), int.from_bytes(derived[32:44], "big"), sealed[56:]
    pieces = [body[at : at + CHUNK + 16] for at in range(0, len(body), CHUNK + 16)]
    return b"".join(aead.decrypt((nonce ^ k).to_bytes(12, "big"), piece, None) for k, piece in enumerate(pieces))


def reference_blob(plaintext: bytes) -> bytes:
    return bytes.fromhex(HEADER_HEX) + cobblestone(DEK, BLOB_CONTEXT, SALT, plaintext)


async def stream(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def seal_at_once(plaintext: bytes, header: BlobHeader = HEADER, dek: bytes = DEK) -> bytes:
    sealer = Sealer(header, dek)
    return sealer.update(plaintext) + sealer.finalize()


def open_at_once(
    blob: bytes, dek: bytes = DEK, blob_id: UUID = BLOB_ID, dek_id: UUID = DEK_ID, sender_id: UUID = SENDER_ID
) -> bytes:
    unsealer = Unsealer(dek, expect_blob_id=blob_id, expect_dek_id=dek_id, expect_sender_id=sender_id)
    return unsealer.update(blob) + unsealer.finalize()


def unseal_pieces(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    return unseal(stream(pieces), DEK, expect_blob_id=BLOB_ID, expect_dek_id=DEK_ID, expect_sender_id=SENDER_ID)


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


THREE_CHUNKS = bytes(i % 251 for i in range(40_000))
PUBLISHED_BLOBS = {
    "empty": (b"", 136, "2b695ac0e2749e9be1e58cbfd8dd041e", None),
    "hello": (b"hello", 141, "7ac47cfe03dcbe701018f02917fcb4395101b49663", None),
    "three chunks": (
        THREE_CHUNKS,
        40_168,
        None,
        "d3dd99a7fcac612ba25c8e853e4719f8310c5d75097af62156248aec1016278b",
    ),
}


@pytest.mark.parametrize(
    ("plaintext", "size", "body_hex", "sha256"), PUBLISHED_BLOBS.values(), ids=PUBLISHED_BLOBS.keys()
)
def test_the_published_blobs_are_the_specification_and_open(
    plaintext: bytes, size: int, body_hex: str | None, sha256: str | None
) -> None:
    blob = reference_blob(plaintext)
    assert len(blob) == size == sealed_size(len(plaintext))
    assert blob[88:120].hex() == COMMITMENT_HEX
    assert body_hex is None or blob[120:].hex() == body_hex
    assert sha256 is None or hashlib.sha256(blob).hexdigest() == sha256
    assert open_at_once(blob) == plaintext


def test_the_header_is_the_published_64_bytes() -> None:
    assert HEADER.to_bytes().hex() == HEADER_HEX
    assert int(HEADER_HEX[-16:], 16) == 1_767_225_600_000


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 40_000])
def test_what_is_sealed_opens_by_the_specification(size: int) -> None:
    plaintext = bytes(i % 253 for i in range(size))
    blob = seal_at_once(plaintext)
    assert len(blob) == sealed_size(size)
    assert blob[:HEADER_BYTES].hex() == HEADER_HEX
    assert open_cobblestone(DEK, BLOB_CONTEXT, blob[HEADER_BYTES:]) == plaintext


def test_the_same_content_is_never_sealed_to_the_same_bytes() -> None:
    assert seal_at_once(b"letter")[64:] != seal_at_once(b"letter")[64:]


@settings(max_examples=60, deadline=None)
@given(
    plaintext=st.binary(max_size=3 * CHUNK),
    cuts=st.lists(st.integers(0, 3 * CHUNK), max_size=6),
    read_size=st.integers(1, 2 * CHUNK),
)
async def test_what_is_sealed_in_any_pieces_opens_in_any_pieces(
    plaintext: bytes, cuts: list[int], read_size: int
) -> None:
    edges = [0, *sorted(min(cut, len(plaintext)) for cut in cuts), len(plaintext)]
    written = [plaintext[start:end] for start, end in pairwise(edges)]
    sealed = b"".join([piece async for piece in seal(stream(written), HEADER, DEK)])
    assert len(sealed) == sealed_size(len(plaintext))
    assert b"".join([piece async for piece in unseal_pieces(in_pieces(sealed, read_size))]) == plaintext


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 40_000])
def test_a_blob_cut_at_any_edge_does_not_open(size: int) -> None:
    blob = seal_at_once(bytes(size))
    edges = {0, 3, 4, 63, 64, 65, 88, 119, 120, 121, len(blob) - 17, len(blob) - 16, len(blob) - 1}
    edges |= {120 + 16_400 * k + shift for k in range(4) for shift in (-1, 0, 1)}
    for cut in sorted(edge for edge in edges if 0 <= edge < len(blob)):
        with pytest.raises(SealBroken):
            open_at_once(blob[:cut])


@pytest.mark.parametrize("size", [0, 5, CHUNK - 1, CHUNK, 2 * CHUNK])
@pytest.mark.parametrize("extra", [b"\0", b"\0" * 16, b"\0" * 16_400, "its last chunk again", "itself again"])
def test_a_lengthened_blob_does_not_open(size: int, extra: bytes | str) -> None:
    blob = seal_at_once(bytes(size))
    tails = {"its last chunk again": blob[120 + 16_400 * (size // CHUNK) :], "itself again": blob}
    with pytest.raises(SealBroken):
        open_at_once(blob + (tails[extra] if isinstance(extra, str) else extra))


def test_every_flipped_bit_of_a_blob_is_found() -> None:
    blob = seal_at_once(b"x")
    for position in range(len(blob) * 8):
        changed = bytearray(blob)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(SealBroken):
            open_at_once(bytes(changed))


def test_chunks_that_change_places_do_not_open() -> None:
    blob = seal_at_once(bytes(3 * CHUNK))
    head, chunks = blob[:120], in_pieces(blob[120:], 16_400)
    for order in ([1, 0, 2, 3], [0, 0, 2, 3], [0, 2, 3], [0, 1, 3]):
        with pytest.raises(SealBroken):
            open_at_once(head + b"".join(chunks[k] for k in order))


@pytest.mark.parametrize(
    "other",
    [
        replace(HEADER, blob_id=OTHER_ID),
        replace(HEADER, dek_id=OTHER_ID),
        replace(HEADER, sender_id=OTHER_ID),
        replace(HEADER, created_at=HEADER.created_at + timedelta(milliseconds=1)),
    ],
)
def test_the_content_of_one_header_does_not_open_under_another(other: BlobHeader) -> None:
    forged = other.to_bytes() + seal_at_once(b"letter")[HEADER_BYTES:]
    with pytest.raises(SealBroken, match="not what was sealed"):
        open_at_once(forged, blob_id=other.blob_id, dek_id=other.dek_id, sender_id=other.sender_id)


@pytest.mark.parametrize(
    "other",
    [
        replace(HEADER, blob_id=OTHER_ID),
        replace(HEADER, dek_id=OTHER_ID),
        replace(HEADER, sender_id=OTHER_ID),
    ],
)
def test_a_genuine_blob_of_other_ids_is_refused(other: BlobHeader) -> None:
    with pytest.raises(SealBroken, match="another blob, key or sender"):
        open_at_once(seal_at_once(b"letter", other))


def test_another_key_does_not_open_a_blob() -> None:
    with pytest.raises(SealBroken):
        open_at_once(seal_at_once(b"letter"), dek=KEK)


async def collect(pieces: AsyncIterator[bytes], into: bytearray) -> None:
    async for piece in pieces:
        into += piece


async def test_content_is_released_before_the_end_but_a_cut_end_raises() -> None:
    blob = seal_at_once(bytes(40_000))[: 120 + 2 * 16_400]
    released = bytearray()
    with pytest.raises(SealBroken):
        await collect(unseal_pieces(in_pieces(blob, 16_400)), released)
    assert released == bytes(2 * CHUNK)


async def test_nothing_of_a_changed_chunk_is_released() -> None:
    blob = bytearray(seal_at_once(bytes(40_000)))
    blob[120 + 16_400] ^= 1
    released = bytearray()
    with pytest.raises(SealBroken):
        await collect(unseal_pieces(in_pieces(bytes(blob), 16_400)), released)
    assert len(released) == CHUNK


async def test_an_error_of_the_source_passes_through_and_leaves_nothing_that_opens() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(20_000)
        raise ConnectionResetError

    written = bytearray()
    with pytest.raises(ConnectionResetError):
        await collect(seal(broken(), HEADER, DEK), written)
    with pytest.raises(SealBroken):
        open_at_once(bytes(written))


async def test_sealing_and_opening_32_mib_takes_less_than_1_mib_of_memory() -> None:
    size, step = 32 * 1024 * 1024, 65_536
    piece = bytes(step)
    tracemalloc.start()
    try:
        sealed = seal(stream(piece for _ in range(size // step)), HEADER, DEK)
        opened = unseal(sealed, DEK, expect_blob_id=BLOB_ID, expect_dek_id=DEK_ID, expect_sender_id=SENDER_ID)
        total = 0
        async for part in opened:
            total += len(part)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == size
    assert peak < 1024 * 1024


def test_a_finished_sealer_takes_no_more() -> None:
    sealer = Sealer(HEADER, DEK)
    sealer.finalize()
    with pytest.raises(AlreadyFinalized):
        sealer.update(b"more")


@given(
    ids=st.tuples(st.uuids(), st.uuids(), st.uuids()),
    created_ms=st.integers(0, 253_402_300_799_999),
)
def test_a_header_survives_writing_and_parsing(ids: tuple[UUID, UUID, UUID], created_ms: int) -> None:
    created_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=created_ms)
    header = BlobHeader(blob_id=ids[0], dek_id=ids[1], sender_id=ids[2], created_at=created_at)
    assert BlobHeader.parse(header.to_bytes()) == header
    assert int.from_bytes(header.to_bytes()[56:], "big") == created_ms


@given(raw=st.binary(min_size=56, max_size=56))
def test_a_header_that_parses_is_written_back_byte_for_byte(raw: bytes) -> None:
    raw = bytes.fromhex(HEADER_HEX[:16]) + raw
    try:
        header = BlobHeader.parse(raw)
    except SealBroken:
        assert int.from_bytes(raw[56:], "big") > 253_402_300_799_999
    else:
        assert header.to_bytes() == raw


@pytest.mark.parametrize(
    ("offset", "changed"),
    [(0, b"DGE2"), (0, b"dge1"), (4, b"\x00"), (4, b"\x02"), (5, b"\x02"), (6, b"\x00\x41"), (6, b"\x40\x00")],
)
def test_a_header_of_another_format_is_refused(offset: int, changed: bytes) -> None:
    raw = bytearray(HEADER.to_bytes())
    raw[offset : offset + len(changed)] = changed
    with pytest.raises(SealBroken):
        BlobHeader.parse(bytes(raw))


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_header_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(SealBroken):
        BlobHeader.parse((HEADER.to_bytes() * 2)[:size])


def test_a_header_past_the_year_9999_is_refused() -> None:
    with pytest.raises(SealBroken, match="9999"):
        BlobHeader.parse(HEADER.to_bytes()[:56] + b"\xff" * 8)


@pytest.mark.parametrize("created_at", [datetime(2026, 1, 1), datetime(1969, 12, 31, 23, 59, tzinfo=UTC)])  # noqa: DTZ001  the naive one is the case
def test_a_header_takes_only_aware_times_from_1970(created_at: datetime) -> None:
    with pytest.raises(ValueError, match="created_at"):
        replace(HEADER, created_at=created_at)


def test_the_published_wrapped_key_is_the_specification_and_opens() -> None:
    wrapped = cobblestone(KEK, WRAP_CONTEXT, SALT, DEK)
    assert wrapped.hex() == WRAPPED_HEX
    assert unwrap_key(KEK, wrapped, dek_id=DEK_ID, sender_id=SENDER_ID, kek_id=KEK_ID) == DEK


def test_a_wrapped_key_opens_by_the_specification() -> None:
    wrapped = wrap_key(KEK, DEK, dek_id=DEK_ID, sender_id=SENDER_ID, kek_id=KEK_ID)
    assert len(wrapped) == 104
    assert open_cobblestone(KEK, WRAP_CONTEXT, wrapped) == DEK


@pytest.mark.parametrize("wrong", ["dek_id", "sender_id", "kek_id"])
def test_a_wrapped_key_does_not_open_for_other_ids(wrong: str) -> None:
    ids = {"dek_id": DEK_ID, "sender_id": SENDER_ID, "kek_id": KEK_ID}
    wrapped = wrap_key(KEK, DEK, **ids)
    with pytest.raises(SealBroken):
        unwrap_key(KEK, wrapped, **(ids | {wrong: OTHER_ID}))


def swap_commitments(wrapped: bytes) -> bytes:
    other = wrap_key(KEK, DEK, dek_id=DEK_ID, sender_id=SENDER_ID, kek_id=KEK_ID)
    return wrapped[:24] + other[24:56] + wrapped[56:]


@pytest.mark.parametrize(
    "change",
    [
        lambda wrapped: wrapped[:-1],
        lambda wrapped: wrapped + b"\0",
        lambda _: b"",
        lambda wrapped: bytes([wrapped[0] ^ 1]) + wrapped[1:],
        lambda wrapped: wrapped[:-1] + bytes([wrapped[-1] ^ 0x80]),
        swap_commitments,
    ],
)
def test_a_changed_wrapped_key_does_not_open(change: Callable[[bytes], bytes]) -> None:
    ids = {"dek_id": DEK_ID, "sender_id": SENDER_ID, "kek_id": KEK_ID}
    wrapped = wrap_key(KEK, DEK, **ids)
    assert unwrap_key(KEK, wrapped, **ids) == DEK
    with pytest.raises(SealBroken):
        unwrap_key(KEK, change(wrapped), **ids)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_only_keys_of_32_bytes_are_wrapped(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        wrap_key(KEK, bytes(size), dek_id=DEK_ID, sender_id=SENDER_ID, kek_id=KEK_ID)
    with pytest.raises(ValueError, match="32 bytes"):
        wrap_key(bytes(size), DEK, dek_id=DEK_ID, sender_id=SENDER_ID, kek_id=KEK_ID)


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(table=NAMES, column=NAMES, row=st.binary(max_size=32), value=st.binary(max_size=200))
def test_a_field_opens_in_its_place_and_by_the_specification(table: str, column: str, row: bytes, value: bytes) -> None:
    sealed = seal_field(DEK, table=table, column=column, row=row, value=value)
    assert len(sealed) == len(value) + 72
    assert open_field(DEK, table=table, column=column, row=row, sealed=sealed) == value
    context = b"dgw.field.v1\0" + table.encode() + b"\0" + column.encode() + b"\0" + row
    assert open_cobblestone(DEK, context, sealed) == value


@pytest.mark.parametrize(
    ("table", "column", "row"),
    [
        ("messages", "subject", b"row-1"),
        ("message", "name", b"row-1"),
        ("message", "subject", b"row-2"),
        ("message", "subjectr", b"ow-1"),
        ("messages", "ubject", b"row-1"),
        ("message", "s", b"ubject\0row-1"),
    ],
)
def test_a_field_does_not_open_in_another_place(table: str, column: str, row: bytes) -> None:
    sealed = seal_field(DEK, table="message", column="subject", row=b"row-1", value=b"Uw aanslagbiljet")
    with pytest.raises(SealBroken):
        open_field(DEK, table=table, column=column, row=row, sealed=sealed)


@pytest.mark.parametrize(("table", "column"), [("", "c"), ("t", ""), ("t\0", "c"), ("t", "c\0c")])
def test_a_place_whose_names_are_empty_or_hold_a_nul_is_refused(table: str, column: str) -> None:
    with pytest.raises(ValueError, match="NUL"):
        seal_field(DEK, table=table, column=column, row=b"", value=b"")


def test_one_kind_of_sealed_bytes_never_opens_as_another() -> None:
    wrapped = wrap_key(DEK, KEK, dek_id=DEK_ID, sender_id=SENDER_ID, kek_id=KEK_ID)
    field = seal_field(DEK, table="message", column="subject", row=b"1", value=KEK)
    blob = seal_at_once(KEK)
    openers: Sequence[tuple[bytes, Callable[[bytes], bytes]]] = [
        (wrapped, lambda raw: unwrap_key(DEK, raw, dek_id=DEK_ID, sender_id=SENDER_ID, kek_id=KEK_ID)),
        (field, lambda raw: open_field(DEK, table="message", column="subject", row=b"1", sealed=raw)),
        (blob[HEADER_BYTES:], lambda raw: open_at_once(blob[:HEADER_BYTES] + raw)),
    ]
    assert len({len(sealed) for sealed, _ in openers}) == 1
    for sealed, _ in openers:
        opened = 0
        for _, opener in openers:
            try:
                assert opener(sealed) == KEK
                opened += 1
            except SealBroken:
                continue
        assert opened == 1


@given(key=st.binary(min_size=32, max_size=32), context=st.binary(max_size=64), value=st.binary(max_size=2 * CHUNK))
def test_a_whole_message_opens_under_its_key_and_context_only(key: bytes, context: bytes, value: bytes) -> None:
    sealed = seal_whole(key, context, value)
    assert open_whole(key, context, sealed) == value
    with pytest.raises(SealBroken):
        open_whole(key, context + b"\0", sealed)
    with pytest.raises(SealBroken):
        open_whole(bytes([key[0] ^ 1]) + key[1:], context, sealed)


def test_generated_keys_are_32_bytes_and_differ() -> None:
    keys = {generate_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key) for key in keys} == {32}
