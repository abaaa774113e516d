"""
Sealed bytes: the blob format DGE1, wrapped keys and sealed fields. These formats live ten years and more.

All three are Cobblestone-256: version 1 of the C2SP "chunked-encryption" specification
(https://c2sp.org/chunked-encryption) with SHA-512 and AES-256-GCM. It is written out here, so that whoever holds the
key can open the bytes without this code:

    key 32 || nonce 12 || commitment 32 = HKDF-Expand-SHA512(input key,
        "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM" || 00 || salt || context, 76)
    ciphertext = salt 24 || commitment 32 || chunks
    chunk k    = AES-256-GCM(key, nonce XOR k as a 96-bit big-endian number, 16384 plaintext bytes, no further data)

The salt is random for each message. The last chunk is always shorter than 16384 plaintext bytes, possibly empty, so a
cut or lengthened ciphertext does not open; the commitment ties the ciphertext to one key. The context is not stored: it
is rebuilt from what the reader expects, so bytes moved to another place do not open there.

**Blob, DGE1**, numbers big-endian:

    off size field
      0   4  magic "DGE1" (44 47 45 31)
      4   1  suite 01 = Cobblestone-256         5  1  header version 01
      6   2  header length = 64 (u16)
      8  16  blob_id (UUID)     24 16  dek_id (UUID)     40 16  sender_id (UUID)
     56   8  created_at, Unix milliseconds (u64)
     64  24  salt   88 32  commitment   120 ... chunks
    context = "dgw.blob.v1" 00 || bytes[0:64]

Total 120 + n + 16 * (n // 16384 + 1) bytes; plaintext byte i lies in chunk k = i // 16384, at offset 120 + 16400 * k.

**Wrapped key**, 104 bytes: Cobblestone-256 of the 32-byte key, with
    context = "dgw.dek.v1" 00 || dek_id || sender_id || kek_id

**Field**: Cobblestone-256 of the value, with
    context = "dgw.field.v1" 00 || table 00 || column 00 || row
Names are UTF-8 without NUL and the row comes last, so two places never share a context. A field is 72 bytes longer than
its value, and 16 more for each full 16384.

A salt cannot be given by the caller: a repeated one would repeat a nonce, which is fatal to AES-GCM.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Final, Self
from uuid import UUID

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from gateway.errors import GatewayError

KEY_BYTES: Final = 32
HEADER_BYTES: Final = 64
WRAPPED_KEY_BYTES: Final = 104

_MAGIC: Final = b"DGE1"
_SUITE_COBBLESTONE_256: Final = 1
_HEADER_VERSION: Final = 1
_HEADER: Final = Struct(">4sBBH16s16s16sQ")
_CHUNK_BYTES: Final = 16_384
_TAG_BYTES: Final = 16
_SALT_AND_COMMITMENT_BYTES: Final = 24 + 32

_BLOB_CONTEXT: Final = b"dgw.blob.v1\0"
_WRAP_CONTEXT: Final = b"dgw.dek.v1\0"
_FIELD_CONTEXT: Final = b"dgw.field.v1\0"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class SealBroken(GatewayError):
    """Sealed bytes are not what was sealed: changed, cut, moved, of an unknown format, or under another key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobHeader:
    """
    The first 64 bytes of a DGE1 blob, in clear but bound to the content.

    `created_at` is aware and not before 1970; digits finer than a millisecond are not written.

    Raises:
        ValueError: `created_at` is naive or before 1970.
    """

    blob_id: UUID
    dek_id: UUID
    sender_id: UUID
    created_at: datetime

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None or self.created_at < _EPOCH:
            raise ValueError("created_at must be aware and not before 1970")

    def to_bytes(self) -> bytes:
        """Return the 64 bytes as they stand at the head of a blob."""
        return _HEADER.pack(
            _MAGIC,
            _SUITE_COBBLESTONE_256,
            _HEADER_VERSION,
            HEADER_BYTES,
            self.blob_id.bytes,
            self.dek_id.bytes,
            self.sender_id.bytes,
            (self.created_at - _EPOCH) // _MILLISECOND,
        )

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """
        Read a header; `to_bytes` of the result gives `raw` again.

        Nothing here is proven yet: only opening the blob proves its header.

        Raises:
            SealBroken: not exactly 64 bytes, another magic, suite, version or length, or a time past the year 9999.
        """
        if len(raw) != HEADER_BYTES:
            raise SealBroken("a blob header is 64 bytes")
        magic, suite, version, length, blob_id, dek_id, sender_id, created_ms = _HEADER.unpack(raw)
        if magic != _MAGIC:
            raise SealBroken("not a DGE1 blob")
        if (suite, version, length) != (_SUITE_COBBLESTONE_256, _HEADER_VERSION, HEADER_BYTES):
            raise SealBroken(f"unknown DGE1 suite {suite}, version {version} or header length {length}")
        try:
            created_at = _EPOCH + timedelta(milliseconds=created_ms)
        except OverflowError as exc:
            raise SealBroken("the blob header's time is past the year 9999") from exc
        return cls(
            blob_id=UUID(bytes=blob_id),
            dek_id=UUID(bytes=dek_id),
            sender_id=UUID(bytes=sender_id),
            created_at=created_at,
        )


def sealed_size(plaintext_bytes: int) -> int:
    """Return the size in bytes of a DGE1 blob whose content has `plaintext_bytes` bytes."""
    return HEADER_BYTES + _message_size(plaintext_bytes)


def _message_size(plaintext_bytes: int) -> int:
    chunks = plaintext_bytes // _CHUNK_BYTES + 1
    return _SALT_AND_COMMITMENT_BYTES + plaintext_bytes + _TAG_BYTES * chunks


class Sealer:
    """
    Seals one blob: `update` as often as needed, then `finalize` once; what they return, in order, is the blob.

    Holds at most one chunk (16 KiB) besides what it is given. The blob id is used for exactly one content, ever.
    """

    def __init__(self, header: BlobHeader, dek: bytes) -> None:
        head = header.to_bytes()
        self._head = head
        self._encryptor = Cobblestone256Encryptor(dek, _BLOB_CONTEXT + head)

    def update(self, data: bytes) -> bytes:
        """Take more content and return the sealed bytes that are ready, possibly none."""
        return self._take_head() + self._encryptor.update(data)

    def finalize(self) -> bytes:
        """Return the last sealed bytes; without them the blob does not open."""
        return self._take_head() + self._encryptor.finalize()

    def _take_head(self) -> bytes:
        head, self._head = self._head, b""
        return head


class Unsealer:
    """
    Opens one blob: `update` as often as needed, then `finalize` once; what they return, in order, is the content.

    What `update` returns is authentic, but may be a mere beginning: **only `finalize` proves the end**. Before it
    returns, publish, print and forward nothing that cannot be taken back. Holds at most one chunk (16 KiB) besides
    what it is given. After an error the object is spent.
    """

    def __init__(self, dek: bytes, *, expect_blob_id: UUID, expect_dek_id: UUID, expect_sender_id: UUID) -> None:
        self._dek = dek
        self._expected = (expect_blob_id, expect_dek_id, expect_sender_id)
        self._head = bytearray()
        self._decryptor: Cobblestone256Decryptor | None = None

    def update(self, data: bytes) -> bytes:
        """
        Take more of the blob and return the content that is authentic so far, possibly none.

        Raises:
            SealBroken: the header is malformed or names other ids, or the bytes are not what was sealed.
        """
        if self._decryptor is None:
            missing = HEADER_BYTES - len(self._head)
            self._head += data[:missing]
            if len(self._head) < HEADER_BYTES:
                return b""
            self._decryptor = self._begin(bytes(self._head))
            data = data[missing:]
        try:
            return self._decryptor.update(data)
        except InvalidTag as exc:
            raise SealBroken("the blob is not what was sealed under this key") from exc

    def finalize(self) -> bytes:
        """
        Return the last content; a normal return proves that the content is whole.

        Raises:
            SealBroken: the blob was cut, lengthened or changed.
        """
        if self._decryptor is None:
            raise SealBroken("the blob ends inside its header")
        try:
            return self._decryptor.finalize()
        except InvalidTag as exc:
            raise SealBroken("the blob was cut, lengthened or changed") from exc

    def _begin(self, head: bytes) -> Cobblestone256Decryptor:
        header = BlobHeader.parse(head)
        if (header.blob_id, header.dek_id, header.sender_id) != self._expected:
            raise SealBroken("the blob header names another blob, key or sender")
        return Cobblestone256Decryptor(self._dek, _BLOB_CONTEXT + head)


async def seal(chunks: AsyncIterator[bytes], header: BlobHeader, dek: bytes) -> AsyncIterator[bytes]:
    """
    Yield the DGE1 blob of the content in `chunks`, in pieces as they are ready.

    Memory: one piece of `chunks`, the sealed piece and one chunk of 16 KiB, whatever the size of the content.
    An error of `chunks` passes through; what was yielded until then does not open. The caller closes `chunks`.
    """
    sealer = Sealer(header, dek)
    async for chunk in chunks:
        if piece := sealer.update(chunk):
            yield piece
    yield sealer.finalize()


async def unseal(
    chunks: AsyncIterator[bytes],
    dek: bytes,
    *,
    expect_blob_id: UUID,
    expect_dek_id: UUID,
    expect_sender_id: UUID,
) -> AsyncIterator[bytes]:
    """
    Yield the content of the DGE1 blob in `chunks`, in pieces as they authenticate.

    Each piece is authentic, but **the end is proven only when the iteration ends without an error**: never publish,
    print or forward before that, and break off a download whose end does not come. Memory as in `seal`.

    Raises:
        SealBroken: the header is malformed or names other ids, or the blob was changed, cut or lengthened.
    """
    unsealer = Unsealer(
        dek, expect_blob_id=expect_blob_id, expect_dek_id=expect_dek_id, expect_sender_id=expect_sender_id
    )
    async for chunk in chunks:
        if piece := unsealer.update(chunk):
            yield piece
    if piece := unsealer.finalize():
        yield piece


def generate_key() -> bytes:
    """Return 32 random bytes, fit for a master key, key-encryption key or data key."""
    return Cobblestone256Encryptor.generate_key()


def seal_whole(key: bytes, context: bytes, plaintext: bytes) -> bytes:
    """Return `plaintext` as one Cobblestone-256 message; `context` is bound to it and not stored."""
    encryptor = Cobblestone256Encryptor(key, context)
    return encryptor.update(plaintext) + encryptor.finalize()


def open_whole(key: bytes, context: bytes, sealed: bytes) -> bytes:
    """
    Return what `seal_whole` sealed under this key and context.

    Raises:
        SealBroken: another key or context, or changed bytes.
    """
    decryptor = Cobblestone256Decryptor(key, context)
    try:
        return decryptor.update(sealed) + decryptor.finalize()
    except InvalidTag as exc:
        raise SealBroken("the sealed bytes do not open here: another key or place, or they were changed") from exc


def wrap_key(kek: bytes, dek: bytes, *, dek_id: UUID, sender_id: UUID, kek_id: UUID) -> bytes:
    """
    Return the 32-byte `dek` wrapped under `kek`: 104 bytes, bound to the three ids.

    Raises:
        ValueError: `dek` or `kek` is not 32 bytes.
    """
    if len(dek) != KEY_BYTES:
        raise ValueError("a data key is 32 bytes")
    return seal_whole(kek, _wrap_context(dek_id, sender_id, kek_id), dek)


def unwrap_key(kek: bytes, wrapped: bytes, *, dek_id: UUID, sender_id: UUID, kek_id: UUID) -> bytes:
    """
    Return the key that `wrap_key` wrapped for these ids.

    Raises:
        SealBroken: not 104 bytes, wrapped under another key or for other ids, or changed.
    """
    if len(wrapped) != WRAPPED_KEY_BYTES:
        raise SealBroken("a wrapped key is 104 bytes")
    return open_whole(kek, _wrap_context(dek_id, sender_id, kek_id), wrapped)


def _wrap_context(dek_id: UUID, sender_id: UUID, kek_id: UUID) -> bytes:
    return _WRAP_CONTEXT + dek_id.bytes + sender_id.bytes + kek_id.bytes


def seal_field(key: bytes, *, table: str, column: str, row: bytes, value: bytes) -> bytes:
    """
    Return `value` sealed for one place in the ledger; it opens nowhere else.

    `row` is the row's key as bytes and never changes while the value lives.

    Raises:
        ValueError: `table` or `column` is empty or holds a NUL.
    """
    return seal_whole(key, _field_context(table, column, row), value)


def open_field(key: bytes, *, table: str, column: str, row: bytes, sealed: bytes) -> bytes:
    """
    Return the value that `seal_field` sealed for this place.

    Raises:
        SealBroken: sealed under another key or for another place, or changed.
        ValueError: `table` or `column` is empty or holds a NUL.
    """
    return open_whole(key, _field_context(table, column, row), sealed)


def _field_context(table: str, column: str, row: bytes) -> bytes:
    for name in (table, column):
        if not name or "\0" in name:
            raise ValueError("the name of a table or column is not empty and holds no NUL")
    return _FIELD_CONTEXT + table.encode() + b"\0" + column.encode() + b"\0" + row
