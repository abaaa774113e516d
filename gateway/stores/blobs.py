"""
The blob store: sealed documents as opaque bytes under an id.

The store knows nothing of keys or formats; whatever it is given is sealed already. An embedded store is a directory
(`files.py`); an object store is its twin. One suite of contract tests holds them all to the promises below.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobInfo:
    """One stored blob. `modified_at` (UTC) is the store's clock and a hint only: never the reason to remove a blob."""

    blob_id: UUID
    size_bytes: int
    modified_at: datetime


class BlobStore(Protocol):
    """
    Keeps blobs. Promises of every implementation:

    - **Immutable.** Under one id lives one content. Putting the same bytes again is fine, other bytes are a conflict.
    - **Durable on return.** When `put` or `erase` returns, its effect survives a power cut.
    - **Missing after erase.** `open` then raises `BlobMissing`, as it does for an id that never was. The store keeps no
      memory of erased ids: that a blob is not put again after its erasure is the ledger's business (tombstones).
    - **Nothing half kept.** No reader and no listing ever sees part of a blob. When `put` raises or is cancelled, the
      blob is not there, or, where the outcome is unknown (`StoreUnavailable`, cancelled while it was being published),
      it may be there whole; in both cases putting it again is right.
    - Constant memory, whatever the size. Safe to call from many tasks at once.
    """

    async def put(self, blob_id: UUID, chunks: AsyncIterator[bytes]) -> int:
        """
        Store the bytes of `chunks` under `blob_id`; on return they survive a power cut. Returns their number.

        An error of `chunks` passes through and nothing is kept. The caller closes `chunks`.

        Raises:
            BlobConflict: other bytes already live under `blob_id`; they are untouched.
            StoreUnavailable: the store cannot write (full, read-only, unreachable).
        """
        ...

    def open(self, blob_id: UUID) -> AsyncIterator[bytes]:
        """
        Yield the bytes of a blob. A reader that has begun may finish although the blob is erased meanwhile.

        Raises, at the first step of the iteration:
            BlobMissing: no blob lives under `blob_id`.
            StoreUnavailable: the store cannot be read; it says nothing about the blob. Possible at any step.
        """
        ...

    def list(self) -> AsyncIterator[BlobInfo]:
        """
        Yield every blob that is there from beginning to end of the iteration, in no order; others may be left out.

        Raises:
            StoreUnavailable: the store cannot be read. Possible at any step.
        """
        ...

    async def erase(self, blob_id: UUID) -> None:
        """
        Remove a blob; on return it is gone for good, power cut or not. An id that is not there is fine.

        Raises:
            StoreUnavailable: the blob may or may not be gone; erase it again.
        """
        ...

    async def sweep_temporary(self, older_than: datetime) -> int:
        """
        Remove what puts that a crash broke off left behind before `older_than`; return how many.

        Raises:
            StoreUnavailable.
        """
        ...

    async def close(self) -> None:
        """Wait for running work and give back what is held; may be called twice."""
        ...
