"""Documents are read from where they lie: the ledger, or the blob store; never from the other."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gateway.clock import utc_now
from gateway.errors import BlobMissing, StoreUnavailable
from gateway.stores.documents import Documents
from gateway.stores.files import FileBlobs
from gateway.stores.model import DocumentRecord
from gateway.stores.sqlite.ledger import SqliteLedger


@pytest.fixture
async def documents(tmp_path: Path, records: Any) -> AsyncIterator[Documents]:
    ledger = await SqliteLedger.open(tmp_path / "state" / "ledger.db", clock=utc_now)
    await ledger.add_kek(records.kek)
    blobs = FileBlobs(tmp_path / "blobs")
    await asyncio.to_thread((tmp_path / "blobs").mkdir)
    yield Documents(ledger=ledger, blobs=blobs)
    await ledger.close()
    await blobs.close()


async def read(documents: Documents, document: DocumentRecord) -> bytes:
    return b"".join([piece async for piece in documents.open(document)])


async def test_each_document_is_read_from_where_it_lies(documents: Documents, records: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"in a blob"

    new = records.mixed(b"enclosed")
    await documents.ledger.record(new)
    small, large = new.message.documents
    await documents.blobs.put(large.document_id, pieces())
    assert await read(documents, small) == b"enclosed"
    assert await read(documents, large) == b"in a blob"
    for wrong in (replace(small, enclosed=False), replace(large, enclosed=True)):
        with pytest.raises(BlobMissing):
            await read(documents, wrong)


@pytest.mark.parametrize("enclosed", [True, False])
async def test_what_is_not_there_is_missing(documents: Documents, records: Any, enclosed: Any) -> None:
    with pytest.raises(BlobMissing):
        await read(documents, records.document(uuid4(), enclosed=enclosed))


async def test_a_ledger_that_cannot_be_read_says_nothing_about_the_document(documents: Documents, records: Any) -> None:
    new = records.enclosing(b"enclosed")
    await documents.ledger.record(new)
    await documents.ledger.close()
    with pytest.raises(StoreUnavailable):
        await read(documents, new.message.documents[0])
