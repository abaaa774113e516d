"""Where sealed documents are read from: small ones lie in the ledger, enclosed in their message, others in blobs."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.errors import BlobMissing
from gateway.stores.blobs import BlobStore
from gateway.stores.ledger import Ledger
from gateway.stores.model import DocumentRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """Reads the sealed bytes of a document, wherever they lie."""

    ledger: Ledger
    blobs: BlobStore

    def open(self, document: DocumentRecord) -> AsyncIterator[bytes]:
        """
        Yield the sealed bytes of a document.

        Raises, at the first step of the iteration:
            BlobMissing: they are not there, or no more.
            StoreUnavailable: they cannot be read; it says nothing about the document. Of a blob possible at any step.
        """
        return self._enclosure(document) if document.enclosed else self.blobs.open(document.document_id)

    async def _enclosure(self, document: DocumentRecord) -> AsyncIterator[bytes]:
        sealed = await self.ledger.enclosure(document.document_id)
        if sealed is None:
            raise BlobMissing(f"no enclosure {document.document_id}")
        yield sealed
