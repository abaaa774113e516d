"""A blob store that tells how long its calls take."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from time import monotonic
from uuid import UUID

from gateway.stores.blobs import BlobInfo, BlobStore


class MeasuredBlobs:
    """`blobs`, whose `put` and `erase` report their name and seconds; the time of a `put` includes its source's."""

    def __init__(self, blobs: BlobStore, observe: Callable[[str, float], None]) -> None:
        self._blobs = blobs
        self._observe = observe

    async def put(self, blob_id: UUID, chunks: AsyncIterator[bytes]) -> int:
        """See `BlobStore.put`."""
        began_s = monotonic()
        stored_bytes = await self._blobs.put(blob_id, chunks)
        self._observe("put", monotonic() - began_s)
        return stored_bytes

    def open(self, blob_id: UUID) -> AsyncIterator[bytes]:
        """See `BlobStore.open`."""
        return self._blobs.open(blob_id)

    def list(self) -> AsyncIterator[BlobInfo]:
        """See `BlobStore.list`."""
        return self._blobs.list()

    async def erase(self, blob_id: UUID) -> None:
        """See `BlobStore.erase`."""
        began_s = monotonic()
        await self._blobs.erase(blob_id)
        self._observe("erase", monotonic() - began_s)

    async def sweep_temporary(self, older_than: datetime) -> int:
        """See `BlobStore.sweep_temporary`."""
        return await self._blobs.sweep_temporary(older_than)

    async def close(self) -> None:
        """See `BlobStore.close`."""
        await self._blobs.close()
