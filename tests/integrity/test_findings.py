"""For each code: damage exactly that, and see exactly that."""

import asyncio
import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from gateway.clock import utc_now
from gateway.crypto.sealing import BlobHeader, Sealer
from gateway.crypto.vault import Vault
from gateway.domain.ids import sender_uuid
from gateway.integrity.findings import Code, told
from gateway.records.personal import seal_value
from gateway.stores.open import open_keyring, open_ledger
from gateway.stores.sqlite.rows import to_ms

if TYPE_CHECKING:
    from tests.integrity.conftest import Left
else:
    Left = object

Damage = Callable[[Left], None]
DAMAGES: defaultdict[Code, list[tuple[Damage, bool]]] = defaultdict(list)
HOUR = timedelta(hours=1)


def damage(code: Code, *, while_open: bool = False) -> Callable[[Damage], Damage]:
    """Register what breaks the promise behind a code, and nothing else; `while_open`: opening the ledger mends it."""

    def register(function: Damage) -> Damage:
        DAMAGES[code].append((function, while_open))
        return function

    return register


def ago(time: timedelta) -> int:
    return to_ms(datetime.now(UTC) - time)


def ahead(time: timedelta) -> int:
    return to_ms(datetime.now(UTC) + time)


# ── Rows ──


@damage(Code.ROW_UNREADABLE)
def a_status_that_nobody_knows(left: Left) -> None:
    left.change("UPDATE message SET status = 'teleported' WHERE message_id = ?", left.id("printed"))


@damage(Code.ROW_UNREADABLE)
def a_delivery_on_a_channel_that_nobody_knows(left: Left) -> None:
    left.change("UPDATE delivery SET channel = 'pigeon' WHERE delivery_id = ?", left.delivery("scheduled"))


@damage(Code.ROW_UNREADABLE)
def a_route_that_is_no_json(left: Left) -> None:
    left.change("UPDATE message SET route = '{' WHERE message_id = ?", left.id("scheduled"))


@damage(Code.ROW_STRAY)
def a_document_without_message(left: Left) -> None:
    left.clone("document", left.document("cancelled").bytes, document_id=uuid4().bytes, message_id=uuid4().bytes)


@damage(Code.ROW_STRAY)
def an_attempt_without_delivery(left: Left) -> None:
    left.change(
        "INSERT INTO attempt (delivery_id, number, action, worker, started_at, deadline_at)"
        " VALUES (randomblob(16), 1, 'send', 'w', 0, 0)"
    )


@damage(Code.ROW_STRAY)
def a_delivery_without_message(left: Left) -> None:
    left.clone("delivery", left.delivery("cancelled"), delivery_id=uuid4().bytes, message_id=uuid4().bytes)


# ── Blobs ──


@damage(Code.BLOB_MISSING)
def a_blob_that_is_gone(left: Left) -> None:
    left.blob(left.document("scheduled")).unlink()


@damage(Code.BLOB_STRAY)
def an_old_blob_of_nothing(left: Left) -> None:
    stray = left.blob(uuid4())
    stray.parent.mkdir(exist_ok=True)
    shutil.copyfile(left.blob(left.document("scheduled")), stray)
    two_days_ago = datetime.now(UTC) - 48 * HOUR
    os.utime(stray, (two_days_ago.timestamp(), two_days_ago.timestamp()))


@damage(Code.BLOB_NOT_ERASED)
def a_blob_that_came_back(left: Left) -> None:
    back = left.blob(left.document("published"))
    back.parent.mkdir(exist_ok=True)
    shutil.copyfile(left.blob(left.document("scheduled")), back)


@damage(Code.BLOB_SIZE_WRONG)
def a_blob_cut_short(left: Left) -> None:
    blob = left.blob(left.document("scheduled"))
    blob.write_bytes(blob.read_bytes()[:-1])


@damage(Code.BLOB_BROKEN)
def a_blob_with_one_bit_turned(left: Left) -> None:
    blob = left.blob(left.document("scheduled"))
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)


@damage(Code.BLOB_DIFFERS)
def a_document_of_another_digest(left: Left) -> None:
    # A cover page, because no receipt states it.
    left.change(
        "UPDATE document SET sha256 = randomblob(32) WHERE kind = 'cover' AND message_id = ?", left.id("printed")
    )


# ── Enclosures ──


@damage(Code.ENCLOSURE_MISSING)
def an_enclosure_that_is_gone(left: Left) -> None:
    left.change("DELETE FROM enclosure WHERE document_id = ?", left.document("cancelled").bytes)


@damage(Code.ENCLOSURE_MISSING)
def a_blob_that_is_said_to_be_enclosed(left: Left) -> None:
    left.change("UPDATE document SET enclosed = 1 WHERE message_id = ?", left.id("scheduled"))


@damage(Code.ENCLOSURE_STRAY)
def an_enclosure_of_nothing(left: Left) -> None:
    left.change("INSERT INTO enclosure (document_id, sealed) VALUES (randomblob(16), randomblob(200))")


@damage(Code.ENCLOSURE_STRAY)
def an_enclosure_of_a_document_that_is_a_blob(left: Left) -> None:
    left.change(
        "INSERT INTO enclosure (document_id, sealed) VALUES (?, randomblob(200))", left.document("scheduled").bytes
    )


@damage(Code.ENCLOSURE_NOT_ERASED)
def an_enclosure_that_came_back(left: Left) -> None:
    left.change(
        "INSERT INTO enclosure (document_id, sealed) SELECT ?, sealed FROM enclosure WHERE document_id = ?",
        left.document("small").bytes,
        left.document("cancelled").bytes,
    )


@damage(Code.ENCLOSURE_SIZE_WRONG)
def an_enclosure_cut_short(left: Left) -> None:
    left.change(
        "UPDATE enclosure SET sealed = substr(sealed, 1, length(sealed) - 1) WHERE document_id = ?",
        left.document("cancelled").bytes,
    )


@damage(Code.ENCLOSURE_BROKEN)
def an_enclosure_of_other_bytes(left: Left) -> None:
    left.change(
        "UPDATE enclosure SET sealed = randomblob(length(sealed)) WHERE document_id = ?",
        left.document("cancelled").bytes,
    )


@damage(Code.ENCLOSURE_DIFFERS)
def another_document_under_the_same_key(left: Left) -> None:
    async def sealed() -> bytes:
        ledger = await open_ledger(left.config.stores.ledger, clock=utc_now)
        keyring = await open_keyring(left.config.stores.keyring)
        record = await ledger.message(left.messages["cancelled"])
        assert record is not None
        (document,) = record.documents
        row = await ledger.dek(document.dek_id)
        assert row is not None
        dek = await Vault(keyring, ledger, utc_now, uuid4).open_dek(row, sender_uuid(record.sender))
        await keyring.close()
        await ledger.close()
        header = BlobHeader(
            blob_id=document.document_id, dek_id=document.dek_id, sender_id=dek.sender_id, created_at=utc_now()
        )
        sealer = Sealer(header, dek.key)
        return sealer.update(b"x" * document.size_bytes) + sealer.finalize()

    forged = asyncio.run(sealed())
    left.change("UPDATE enclosure SET sealed = ? WHERE document_id = ?", forged, left.document("cancelled").bytes)


# ── Keys ──


@damage(Code.KEY_MISSING)
def the_key_of_a_document_destroyed(left: Left) -> None:
    left.change(
        "UPDATE dek SET destroyed = 1, wrapped = zeroblob(length(wrapped))"
        " WHERE dek_id = (SELECT dek_id FROM document WHERE message_id = ?)",
        left.id("scheduled"),
    )


@damage(Code.KEY_MISSING)
def the_key_of_a_message_gone(left: Left) -> None:
    left.change(
        "DELETE FROM dek WHERE dek_id = (SELECT meta_dek_id FROM message WHERE message_id = ?)", left.id("published")
    )


@damage(Code.KEY_BROKEN)
def the_key_of_a_message_changed(left: Left) -> None:
    left.change(
        "UPDATE dek SET wrapped = randomblob(length(wrapped))"
        " WHERE dek_id = (SELECT meta_dek_id FROM message WHERE message_id = ?)",
        left.id("scheduled"),
    )


@damage(Code.KEY_BROKEN)
def the_key_of_a_document_changed(left: Left) -> None:
    left.change(
        "UPDATE dek SET wrapped = randomblob(length(wrapped))"
        " WHERE dek_id = (SELECT dek_id FROM document WHERE message_id = ?)",
        left.id("scheduled"),
    )


@damage(Code.KEY_NOT_DESTROYED)
def the_key_of_an_erased_document_back(left: Left) -> None:
    left.change(
        "UPDATE dek SET destroyed = 0, wrapped = randomblob(104)"
        " WHERE dek_id = (SELECT dek_id FROM document WHERE message_id = ?)",
        left.id("published"),
    )


@damage(Code.KEY_NOT_DESTROYED)
def a_key_destroyed_in_name_only(left: Left) -> None:
    left.change(
        "UPDATE dek SET wrapped = randomblob(104) WHERE dek_id = (SELECT dek_id FROM document WHERE message_id = ?)",
        left.id("published"),
    )


@damage(Code.KEY_NOT_DESTROYED)
def an_erased_document_whose_key_was_never_noted_as_destroyed(left: Left) -> None:
    left.change("UPDATE document SET key_destroyed_at = NULL WHERE message_id = ?", left.id("published"))


@damage(Code.KEY_NOT_DESTROYED)
def a_document_noted_as_erased_while_it_is_needed(left: Left) -> None:
    left.change("UPDATE document SET key_destroyed_at = ? WHERE message_id = ?", ago(HOUR / 2), left.id("scheduled"))


@damage(Code.KEY_STRAY)
def a_key_of_nothing(left: Left) -> None:
    left.change(
        "INSERT INTO dek (dek_id, kek_id, purpose, wrapped) SELECT randomblob(16), kek_id, 'document', randomblob(104)"
        " FROM kek LIMIT 1"
    )


# ── The copy ──


@damage(Code.COPY_WRONG)
def a_copy_without_end(left: Left) -> None:
    left.change("UPDATE message SET copy_until = NULL WHERE message_id = ?", left.id("printed"))


@damage(Code.COPY_WRONG)
def an_ended_message_whose_copy_stays(left: Left) -> None:
    left.change(
        "UPDATE message SET copy_until = NULL, copy_state = 'in-delivery' WHERE message_id = ?", left.id("refused")
    )


@damage(Code.COPY_WRONG)
def a_returned_message_whose_copy_stays(left: Left) -> None:
    left.change(
        "UPDATE message SET copy_until = NULL, copy_state = 'in-delivery' WHERE message_id = ?", left.id("returned")
    )


@damage(Code.COPY_WRONG)
def a_copy_that_ends_before_its_delivery(left: Left) -> None:
    left.change(
        "UPDATE message SET copy_until = ?, copy_state = 'kept' WHERE message_id = ?", ahead(HOUR), left.id("scheduled")
    )


@damage(Code.ERASURE_LATE)
def a_copy_past_its_term(left: Left) -> None:
    left.change("UPDATE message SET copy_until = ? WHERE message_id = ?", ago(2 * HOUR), left.id("printed"))


@damage(Code.ERASURE_LATE)
def a_blob_that_outlived_its_key_for_hours(left: Left) -> None:
    a_blob_that_came_back(left)
    left.change(
        "UPDATE document SET key_destroyed_at = ?, blob_erased_at = NULL WHERE message_id = ?",
        ago(2 * HOUR),
        left.id("published"),
    )


@damage(Code.RETRIEVAL_MISSING)
def a_cover_page_whose_code_opens_nothing(left: Left) -> None:
    left.change("DELETE FROM retrieval WHERE delivery_id = ?", left.delivery("printed"))


@damage(Code.RETRIEVAL_STRAY)
def a_code_for_an_erased_copy(left: Left) -> None:
    a_code(left, left.delivery("published"))


@damage(Code.RETRIEVAL_STRAY)
def a_code_for_nothing(left: Left) -> None:
    a_code(left, uuid4().bytes)


def a_code(left: Left, delivery_id: bytes) -> None:
    left.change(
        "INSERT INTO retrieval (delivery_id, message_id, token_hash, number_hash, code_hash, index_version, created_at)"
        " VALUES (?, randomblob(16), randomblob(32), randomblob(32), randomblob(32), 1, 0)",
        delivery_id,
    )


# ── Deliveries ──


@damage(Code.DELIVERY_IMPOSSIBLE)
def a_delivery_that_waits_to_be_asked_about(left: Left) -> None:
    left.change("UPDATE delivery SET next_action = 'poll' WHERE delivery_id = ?", left.delivery("scheduled"))


@damage(Code.DELIVERY_IMPOSSIBLE)
def an_ended_delivery_that_is_due(left: Left) -> None:
    left.change("UPDATE delivery SET due_at = ? WHERE delivery_id = ?", ahead(HOUR), left.delivery("published"))


@damage(Code.DELIVERY_IMPOSSIBLE)
def an_ended_delivery_with_a_deadline(left: Left) -> None:
    left.change("UPDATE delivery SET deadline_at = ? WHERE delivery_id = ?", ahead(HOUR), left.delivery("published"))


@damage(Code.DELIVERY_IMPOSSIBLE, while_open=True)
def an_ended_delivery_that_somebody_holds(left: Left) -> None:
    left.change("UPDATE delivery SET lease_until = ? WHERE delivery_id = ?", ahead(HOUR), left.delivery("published"))


@damage(Code.DELIVERY_IMPOSSIBLE)
def a_delivery_that_was_followed_and_goes_on(left: Left) -> None:
    left.change(
        "UPDATE delivery SET next_action = 'poll', due_at = ?, deadline_at = ? WHERE delivery_id = ?",
        ahead(HOUR),
        ahead(HOUR),
        left.delivery("both"),
    )


@damage(Code.DELIVERY_UNOWNED)
def a_delivery_without_action(left: Left) -> None:
    left.change("UPDATE delivery SET next_action = 'none' WHERE delivery_id = ?", left.delivery("scheduled"))


@damage(Code.DELIVERY_UNOWNED)
def a_delivery_without_due_time(left: Left) -> None:
    left.change("UPDATE delivery SET due_at = NULL WHERE delivery_id = ?", left.delivery("scheduled"))


@damage(Code.DELIVERY_UNOWNED)
def a_delivery_without_deadline(left: Left) -> None:
    left.change("UPDATE delivery SET deadline_at = NULL WHERE delivery_id = ?", left.delivery("doubtful"))


@damage(Code.DELIVERY_GAP)
def a_delivery_that_is_missing_between_two(left: Left) -> None:
    left.change("UPDATE delivery SET number = 3 WHERE delivery_id = ?", left.delivery("both", 2))


@damage(Code.ATTEMPT_GAP)
def an_attempt_that_is_gone(left: Left) -> None:
    left.change("DELETE FROM attempt WHERE delivery_id = ?", left.delivery("published"))


@damage(Code.HANDED_OVER_TWICE)
def a_delivery_that_was_taken_twice(left: Left) -> None:
    left.change(
        "INSERT INTO attempt (delivery_id, number, action, worker, started_at, deadline_at, ended_at, outcome)"
        " SELECT delivery_id, 2, action, worker, started_at, deadline_at, ended_at, outcome FROM attempt"
        " WHERE delivery_id = ?",
        left.delivery("published"),
    )
    left.change("UPDATE delivery SET attempts = 2 WHERE delivery_id = ?", left.delivery("published"))


@damage(Code.DELIVERED_TWICE)
def paper_after_an_ebox_that_was_enough(left: Left) -> None:
    left.change("UPDATE delivery SET reason = NULL WHERE delivery_id = ?", left.delivery("both"))


@damage(Code.DELIVERED_TWICE)
def paper_for_a_reason_that_no_rule_names(left: Left) -> None:
    left.change("UPDATE delivery SET reason = 'no-box' WHERE delivery_id = ?", left.delivery("both"))
    left.change("""UPDATE message SET route = replace(route, '"no-box",', '') WHERE message_id = ?""", left.id("both"))


@damage(Code.LATE)
def a_delivery_past_its_deadline(left: Left) -> None:
    left.change("UPDATE delivery SET deadline_at = ? WHERE delivery_id = ?", ago(HOUR), left.delivery("scheduled"))


@damage(Code.LEASE_HELD, while_open=True)
def a_delivery_held_by_a_worker_long_dead(left: Left) -> None:
    left.change("UPDATE delivery SET lease_until = ? WHERE delivery_id = ?", ago(2 * HOUR), left.delivery("scheduled"))


# ── The message ──


@damage(Code.STATUS_DISAGREES)
def a_message_under_way_that_nobody_was_called_for(left: Left) -> None:
    left.change("UPDATE message SET status = 'in-delivery' WHERE message_id = ?", left.id("scheduled"))


@damage(Code.ENDED_BUT_QUEUED)
def an_ended_message_that_a_worker_would_send(left: Left) -> None:
    left.change(
        "UPDATE message SET status = 'undeliverable', copy_state = 'awaiting-erasure', copy_until = ?"
        " WHERE message_id = ?",
        ahead(HOUR),
        left.id("scheduled"),
    )


@damage(Code.RECEIPT_INVALID)
def a_receipt_whose_signature_was_changed(left: Left) -> None:
    left.change(
        "UPDATE message SET receipt_jws = substr(receipt_jws, 1, length(receipt_jws) - 9) || 'AAAAAAAAA'"
        " WHERE message_id = ?",
        left.id("refused"),
    )


@damage(Code.RECEIPT_INVALID)
def a_receipt_in_xml_with_another_reference(left: Left) -> None:
    left.change(
        "UPDATE message SET receipt_xml = CAST(replace(CAST(receipt_xml AS TEXT), 'Reference>test-', 'Reference>tset-')"
        " AS BLOB) WHERE message_id = ?",
        left.id("refused"),
    )


@damage(Code.RECEIPT_DIFFERS)
def the_receipt_of_another_message(left: Left) -> None:
    left.change(
        "UPDATE message SET receipt_jws = (SELECT receipt_jws FROM message WHERE message_id = ?) WHERE message_id = ?",
        left.id("published"),
        left.id("scheduled"),
    )


@damage(Code.RECEIPT_DIFFERS)
def another_digest_than_the_receipt_states(left: Left) -> None:
    left.change("UPDATE document SET sha256 = randomblob(32) WHERE message_id = ?", left.id("published"))


@damage(Code.SIGNED_MESSAGE_UNREADABLE)
def a_signed_message_that_does_not_open(left: Left) -> None:
    left.change("UPDATE message SET sealed_signed_message = randomblob(400) WHERE message_id = ?", left.id("refused"))


@damage(Code.SIGNED_MESSAGE_DIFFERS)
def another_signed_message_under_the_same_key(left: Left) -> None:
    message_id = left.messages["refused"]

    async def sealed() -> bytes:
        ledger = await open_ledger(left.config.stores.ledger, clock=utc_now)
        keyring = await open_keyring(left.config.stores.keyring)
        record = await ledger.message(message_id)
        assert record is not None
        row = await ledger.dek(record.meta_dek_id)
        assert row is not None
        meta = await Vault(keyring, ledger, utc_now, uuid4).open_dek(row, sender_uuid(record.sender))
        await keyring.close()
        await ledger.close()
        return seal_value(meta, message_id, "sealed_signed_message", b"<Message/>")

    forged = asyncio.run(sealed())
    left.change("UPDATE message SET sealed_signed_message = ? WHERE message_id = ?", forged, message_id.bytes)


@damage(Code.MESSAGE_UNPROVEN)
def an_item_whose_batch_is_not_there(left: Left) -> None:
    left.change("DELETE FROM batch_item WHERE message_id = ?", left.id("scheduled"))


@damage(Code.MESSAGE_UNPROVEN)
def an_item_whose_batch_is_no_batch(left: Left) -> None:
    left.change("UPDATE batch SET part = randomblob(400)")


@damage(Code.MESSAGE_UNPROVEN)
def an_item_whose_batch_is_another_than_was_accepted(left: Left) -> None:
    left.change("UPDATE batch SET content_sha256 = randomblob(32)")


@damage(Code.MESSAGE_UNPROVEN)
def an_item_that_its_batch_does_not_list(left: Left) -> None:
    left.change("UPDATE batch_item SET message_id = ? WHERE message_id = ?", left.id("refused"), left.id("scheduled"))


@damage(Code.REFERENCE_MISSING)
def a_reference_that_was_freed(left: Left) -> None:
    left.change("DELETE FROM reference WHERE message_id = ?", left.id("scheduled"))


@damage(Code.REFERENCE_DIFFERS)
def a_reference_for_other_content(left: Left) -> None:
    left.change("UPDATE reference SET content_sha256 = randomblob(32) WHERE message_id = ?", left.id("scheduled"))


@damage(Code.REFERENCE_STRAY)
def a_reference_of_nothing(left: Left) -> None:
    left.change(
        "INSERT INTO reference (sender, profile, reference, message_id, content_sha256)"
        " SELECT sender, profile, 'gone-1', randomblob(16), content_sha256 FROM reference LIMIT 1"
    )


@damage(Code.REFERENCE_STRAY)
def a_second_reference_of_one_message(left: Left) -> None:
    left.change(
        "INSERT INTO reference (sender, profile, reference, message_id, content_sha256)"
        " SELECT sender, profile, 'second-1', message_id, content_sha256 FROM reference LIMIT 1"
    )


@damage(Code.ACCEPTANCE_UNLOGGED)
def an_acceptance_that_nobody_logged(left: Left) -> None:
    left.change(
        "DELETE FROM log_entry WHERE log = 'traffic' AND event = 'accepted' AND delivery_id IS NULL AND message_id = ?",
        left.id("published"),
    )


@damage(Code.STATUS_UNLOGGED)
def a_refusal_that_nobody_logged(left: Left) -> None:
    left.change(
        "DELETE FROM log_entry WHERE log = 'traffic' AND event = 'rejected' AND message_id = ?", left.id("refused")
    )


@damage(Code.STATUS_UNLOGGED)
def a_message_whose_log_tells_of_another_status(left: Left) -> None:
    left.change(
        "UPDATE log_entry SET entry = CAST(replace(CAST(entry AS TEXT), 'undeliverable', 'delivered') AS BLOB)"
        " WHERE log = 'traffic' AND event = 'rejected' AND message_id = ?",
        left.id("refused"),
    )


@damage(Code.QUOTA_TOO_LOW)
def a_quota_that_forgot_messages(left: Left) -> None:
    left.change("UPDATE quota SET messages = messages - 1")


@damage(Code.QUOTA_TOO_LOW)
def a_quota_that_never_counted(left: Left) -> None:
    left.change("DELETE FROM quota")


@damage(Code.FEED_GAP)
def an_event_that_left_the_feed(left: Left) -> None:
    left.change("DELETE FROM feed_event WHERE number = 2")


@damage(Code.FEED_GAP)
def a_feed_that_forgot_how_far_it_was(left: Left) -> None:
    left.change("UPDATE feed SET last_number = last_number + 1")


# ── The tests ──


CASES = [
    pytest.param(code, function, while_open, id=function.__name__)
    for code, functions in DAMAGES.items()
    for function, while_open in functions
]


@pytest.mark.parametrize(("code", "function", "while_open"), CASES)
async def test_a_broken_promise_is_named(
    left: Left,
    code: Code,
    function: Damage,
    while_open: bool,  # noqa: FBT001 -- pytest names it
) -> None:
    report = await left.verify_damaged(function, while_open=while_open)
    assert dict(report.totals).keys() == {code}, [(each.code, each.id, each.text) for each in report.findings]
    assert not report.is_clean


def test_every_code_has_a_damage_that_shows_it() -> None:
    # In SQLite a delivery is its own queue entry; test_queue.py damages the other kind.
    assert set(DAMAGES) == set(Code) - {Code.QUEUE_DISAGREES}


@pytest.mark.parametrize("code", Code)
def test_every_code_says_in_one_sentence_what_is_wrong_and_what_to_do(code: Code) -> None:
    text = told(code)
    assert len(text) > 40
    assert "\n" not in text
    assert not text.endswith(".")
