"""The secrets of a paper letter: how they look, what people make of them, and what is kept."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.vault import BlindIndex
from gateway.domain.ids import DeliveryId, MessageId
from gateway.records.retrieval import (
    ALPHABET,
    RetrievalSecrets,
    code_opens,
    decoy,
    new_secrets,
    number_candidates,
    parse_code,
    parse_number,
    parse_token,
    retrieval_record,
    show_number,
    token_candidates,
)
from gateway.stores.model import RetrievalRecord

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
DELIVERY, OTHER_DELIVERY = DeliveryId(UUID(int=1)), DeliveryId(UUID(int=2))
INDEX = BlindIndex("portal", {1: b"\x01" * 32})
ROTATED = BlindIndex("portal", {1: b"\x01" * 32, 2: b"\x02" * 32})
SECRETS = RetrievalSecrets(token="7k3m9xq2abcdefghjkmnpqrstv", number="4071882650193347", code="7K3M9XQ2")


def record(index: BlindIndex = INDEX, delivery_id: DeliveryId = DELIVERY) -> RetrievalRecord:
    return retrieval_record(SECRETS, index, delivery_id=delivery_id, message_id=MessageId(UUID(int=3)), at=NOW)


def test_fresh_secrets_are_canonical_and_differ() -> None:
    many = [new_secrets() for _ in range(100)]
    assert len({made.token for made in many} | {made.number for made in many} | {made.code for made in many}) == 300
    for made in many:
        assert parse_token(made.shown_token) == made.token
        assert parse_number(made.shown_number) == made.number
        assert parse_code(made.shown_code) == made.code


def test_secrets_have_the_strength_and_shape_they_promise() -> None:
    made = new_secrets()
    assert 5 * len(made.token) >= 128
    assert set(made.token.upper()) <= set(ALPHABET)
    assert len(ALPHABET) == len(set(ALPHABET)) == 32
    assert not set("ILOU") & set(ALPHABET)
    assert len(made.number) == 16
    assert len(made.code) == 8


def test_secrets_are_shown_in_groups_of_four() -> None:
    assert SECRETS.shown_number == show_number(SECRETS.number) == "4071 8826 5019 3347"
    assert SECRETS.shown_code == "7K3M-9XQ2"
    assert SECRETS.shown_token == "7k3m-9xq2-abcd-efgh-jkmn-pqrs-tv"


def test_secrets_never_show_themselves() -> None:
    shown = f"{SECRETS!r} {record()!r}"
    assert not any(text in shown for text in (SECRETS.token, SECRETS.number, SECRETS.code))


@pytest.mark.parametrize(
    "typed",
    [
        "7K3M-9XQ2", "7k3m9xq2", " 7k3m 9xq2 ", "7K3M\u20139XQ2", "7k3m_9xq2", "\uff17K3M\u00a09XQ2", "7K3M\u200b-9XQ2",
    ],
)  # fmt: skip
def test_a_code_is_read_however_it_is_typed(typed: str) -> None:
    assert parse_code(typed) == SECRETS.code


@pytest.mark.parametrize(("typed", "read"), [("OoIiLl01", "00111101"), ("abcdefgh", "ABCDEFGH")])
def test_letters_that_look_like_digits_are_read_as_digits(typed: str, read: str) -> None:
    assert parse_code(typed) == read


@pytest.mark.parametrize("typed", ["", "7K3M-9XQ", "7K3M-9XQ22", "7K3M-9XU2", "7K3M-9XQ!", "é7K3M9XQ", "7" * 100_000])
def test_what_can_be_no_code_is_told_apart(typed: str) -> None:
    assert parse_code(typed) is None


@pytest.mark.parametrize("typed", ["4071 8826 5019 3347", "4071.8826.5019.3347", " 407I-8826-5Ol9-3347 "])
def test_a_number_is_read_however_it_is_typed(typed: str) -> None:
    assert parse_number(typed) == SECRETS.number


@pytest.mark.parametrize("typed", ["", "4071 8826 5019 334", "4071 8826 5019 33470", "4071 8826 5019 334A"])
def test_what_can_be_no_number_is_told_apart(typed: str) -> None:
    assert parse_number(typed) is None


@given(st.text(alphabet=ALPHABET, min_size=8, max_size=8), st.integers(0, 8), st.sampled_from([" ", "-", "\u2011", ""]))
def test_case_and_separators_never_change_a_code(code: str, at: int, separator: str) -> None:
    assert parse_code(f"{code[:at].lower()}{separator}{code[at:]}") == code


@given(st.text(max_size=60))
def test_what_is_read_reads_the_same_again(typed: str) -> None:
    for parse in (parse_code, parse_number, parse_token):
        read = parse(typed)
        assert read is None or parse(read) == read


def test_only_keyed_hashes_are_kept() -> None:
    kept = record()
    assert {len(value) for value in (kept.token_hash, kept.number_hash, kept.code_hash)} == {32}
    assert len({kept.token_hash, kept.number_hash, kept.code_hash}) == 3
    assert (1, kept.token_hash) in token_candidates(INDEX, SECRETS.token)
    assert (1, kept.number_hash) in number_candidates(INDEX, SECRETS.number)


def test_the_formats_of_the_hashes_stay_as_they_are() -> None:
    kept = record()
    assert kept.token_hash == INDEX.of("dgw.token", "7k3m9xq2abcdefghjkmnpqrstv")
    assert kept.number_hash == INDEX.of("dgw.number", "4071882650193347")
    assert kept.code_hash == INDEX.of("dgw.code", "00000000000000000000000000000001", "7K3M9XQ2")


def test_a_code_opens_its_own_delivery_only() -> None:
    assert code_opens(record(), INDEX, SECRETS.code)
    assert not code_opens(record(), INDEX, "7K3M9XQ3")
    assert record().code_hash != record(delivery_id=OTHER_DELIVERY).code_hash


def test_a_letter_of_an_older_key_version_still_opens() -> None:
    kept = record(INDEX)
    assert code_opens(kept, ROTATED, SECRETS.code)
    assert (1, kept.number_hash) in number_candidates(ROTATED, SECRETS.number)


def test_a_letter_of_a_dropped_key_version_never_opens() -> None:
    assert not code_opens(record(INDEX), BlindIndex("portal", {2: b"\x02" * 32}), SECRETS.code)


def test_no_code_opens_a_decoy() -> None:
    made = decoy(INDEX, NOW)
    assert made.index_version == INDEX.version
    assert not code_opens(made, INDEX, SECRETS.code)
    assert decoy(INDEX, NOW).delivery_id != made.delivery_id
