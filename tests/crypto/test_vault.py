"""The key hierarchy over an in-memory ledger and a keyring that counts what it is asked."""

import asyncio
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.sealing import SealBroken, generate_key, open_whole, seal_whole, unwrap_key
from gateway.crypto.vault import KEY_USES, BlindIndex, DekRow, IndexKeyRow, KekRow, Vault
from gateway.errors import KeyringRefused, StoreUnavailable

SENDER = UUID(int=1)
OTHER_SENDER = UUID(int=2)


class CountingKeyring:
    """Wraps for real, remembers every context, can be told to be away or to wait."""

    master_id = "test-master"

    def __init__(self) -> None:
        self.wrapped: list[dict[str, str]] = []
        self.unwrapped: list[dict[str, str]] = []
        self.is_away = False
        self.gate: asyncio.Event | None = None
        self._key = generate_key()

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        await self._called()
        self.wrapped.append(dict(context))
        return seal_whole(self._key, json.dumps(context, sort_keys=True).encode(), key)

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        await self._called()
        self.unwrapped.append(dict(context))
        try:
            return open_whole(self._key, json.dumps(context, sort_keys=True).encode(), wrapped)
        except SealBroken as exc:
            raise KeyringRefused("wrong context") from exc

    async def _called(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise StoreUnavailable("the keyring is away")


class MemoryRows:
    """The rows of one ledger; the first insert wins, as the ledger promises."""

    def __init__(self) -> None:
        self.keks: dict[UUID, KekRow] = {}
        self.index: dict[tuple[str, int], IndexKeyRow] = {}

    async def kek(self, kek_id: UUID) -> KekRow | None:
        return self.keks.get(kek_id)

    async def kek_for(self, sender_id: UUID, year: int) -> KekRow | None:
        return next((row for row in self.keks.values() if (row.sender_id, row.year) == (sender_id, year)), None)

    async def add_kek(self, row: KekRow) -> KekRow:
        found = await self.kek_for(row.sender_id, row.year)
        return found or self.keks.setdefault(row.kek_id, row)

    async def index_keys(self, purpose: str) -> list[IndexKeyRow]:
        return [row for row in self.index.values() if row.purpose == purpose]

    async def add_index_key(self, row: IndexKeyRow) -> IndexKeyRow:
        return self.index.setdefault((row.purpose, row.version), row)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 12, 31, 23, 50, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def keyring() -> CountingKeyring:
    return CountingKeyring()


@pytest.fixture
def rows() -> MemoryRows:
    return MemoryRows()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vault(keyring: CountingKeyring, rows: MemoryRows, clock: Clock) -> Vault:
    return Vault(keyring, rows, clock, uuid4)


@pytest.fixture
def restarted(keyring: CountingKeyring, rows: MemoryRows, clock: Clock) -> Vault:
    """Another vault on the same stores, as after a restart or in another replica."""
    return Vault(keyring, rows, clock, uuid4)


async def test_a_new_key_opens_again_after_a_restart(vault: Vault, restarted: Vault) -> None:
    made = await vault.new_dek(SENDER, "document")
    opened = await restarted.open_dek(made.row, SENDER)
    assert opened.key == made.key
    assert (opened.row, opened.sender_id) == (made.row, SENDER)
    assert made.row.purpose == "document"
    assert len(made.row.wrapped) == 104


async def test_data_keys_of_one_sender_and_year_differ_under_one_sender_key(vault: Vault, rows: MemoryRows) -> None:
    deks = [await vault.new_dek(SENDER, "document") for _ in range(3)]
    assert len({dek.key for dek in deks}) == len({dek.row.dek_id for dek in deks}) == 3
    assert {dek.row.kek_id for dek in deks} == set(rows.keks)
    assert len(rows.keks) == 1


async def test_each_sender_and_each_utc_year_has_its_own_sender_key(
    vault: Vault, rows: MemoryRows, clock: Clock
) -> None:
    first = await vault.new_dek(SENDER, "meta")
    await vault.new_dek(OTHER_SENDER, "meta")
    clock.now += timedelta(minutes=10)
    next_year = await vault.new_dek(SENDER, "log")
    assert sorted((row.sender_id.int, row.year) for row in rows.keks.values()) == [(1, 2026), (1, 2027), (2, 2026)]
    assert {row.master_id for row in rows.keks.values()} == {"test-master"}
    assert (await vault.open_dek(first.row, SENDER)).key == first.key
    assert next_year.row.kek_id != first.row.kek_id


async def test_a_sender_key_is_wrapped_for_its_own_id_and_sender(
    vault: Vault, rows: MemoryRows, keyring: CountingKeyring
) -> None:
    await vault.new_dek(SENDER, "document")
    (kek_id,) = rows.keks
    assert keyring.wrapped == [{"dgw": "kek.v1", "kek": str(kek_id), "sender": str(SENDER)}]


async def test_a_data_key_is_wrapped_for_its_ids(vault: Vault, rows: MemoryRows, keyring: CountingKeyring) -> None:
    dek = await vault.new_dek(SENDER, "document")
    kek_row = rows.keks[dek.row.kek_id]
    kek = await keyring.unwrap(kek_row.wrapped, keyring.wrapped[0])
    ids = {"dek_id": dek.row.dek_id, "sender_id": SENDER, "kek_id": dek.row.kek_id}
    assert unwrap_key(kek, dek.row.wrapped, **ids) == dek.key


async def test_two_replicas_that_make_the_first_key_at_once_agree_on_one(
    vault: Vault, restarted: Vault, rows: MemoryRows, keyring: CountingKeyring
) -> None:
    keyring.gate = asyncio.Event()
    both = asyncio.gather(vault.new_dek(SENDER, "document"), restarted.new_dek(SENDER, "document"))
    await asyncio.sleep(0)
    keyring.gate.set()
    one, other = await both
    assert len(keyring.wrapped) == 2
    assert len(rows.keks) == 1
    assert one.row.kek_id == other.row.kek_id
    assert (await restarted.open_dek(one.row, SENDER)).key == one.key


async def test_a_key_that_many_wait_for_is_fetched_once(vault: Vault, keyring: CountingKeyring) -> None:
    keyring.gate = asyncio.Event()
    all_at_once = asyncio.gather(*(vault.new_dek(SENDER, "document") for _ in range(50)))
    await asyncio.sleep(0)
    keyring.gate.set()
    await all_at_once
    assert len(keyring.wrapped) == len(keyring.unwrapped) == 1


async def test_a_slow_sender_key_does_not_hold_up_another(
    vault: Vault, rows: MemoryRows, keyring: CountingKeyring
) -> None:
    await vault.new_dek(OTHER_SENDER, "document")
    keyring.gate = asyncio.Event()
    waiting = asyncio.create_task(vault.new_dek(SENDER, "document"))
    await asyncio.sleep(0)
    assert (await vault.new_dek(OTHER_SENDER, "document")).sender_id == OTHER_SENDER
    assert not waiting.done()
    keyring.gate.set()
    await waiting


@pytest.mark.parametrize(
    ("shift", "fetched"),
    [(timedelta(0), 1), (timedelta(seconds=299), 1), (timedelta(seconds=300), 2), (timedelta(seconds=-1), 2)],
)
async def test_an_opened_sender_key_is_used_for_at_most_300_seconds(
    vault: Vault, keyring: CountingKeyring, clock: Clock, shift: timedelta, fetched: int
) -> None:
    await vault.new_dek(SENDER, "document")
    clock.now += shift
    await vault.new_dek(SENDER, "document")
    assert len(keyring.unwrapped) == fetched


async def test_an_opened_sender_key_is_used_at_most_100_000_times(
    vault: Vault, keyring: CountingKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KEY_USES == 100_000
    monkeypatch.setattr("gateway.crypto.vault.KEY_USES", 3)
    for _ in range(7):
        await vault.new_dek(SENDER, "document")
    assert len(keyring.unwrapped) == 3


async def test_forgotten_keys_are_fetched_again(vault: Vault, keyring: CountingKeyring) -> None:
    await vault.new_dek(SENDER, "document")
    vault.forget()
    await vault.new_dek(SENDER, "document")
    assert len(keyring.unwrapped) == 2


async def test_a_key_being_fetched_while_all_are_forgotten_is_not_held(vault: Vault, keyring: CountingKeyring) -> None:
    await vault.new_dek(SENDER, "document")
    vault.forget()
    keyring.gate = asyncio.Event()
    fetching = asyncio.create_task(vault.new_dek(SENDER, "document"))
    await asyncio.sleep(0)
    vault.forget()
    keyring.gate.set()
    await fetching
    await vault.new_dek(SENDER, "document")
    assert len(keyring.unwrapped) == 3


async def test_a_failed_fetch_is_tried_again_by_the_next_caller(vault: Vault, keyring: CountingKeyring) -> None:
    keyring.is_away = True
    with pytest.raises(StoreUnavailable):
        await vault.new_dek(SENDER, "document")
    keyring.is_away = False
    assert (await vault.new_dek(SENDER, "document")).sender_id == SENDER


async def test_a_cancelled_fetch_leaves_the_next_waiter_its_turn(vault: Vault, keyring: CountingKeyring) -> None:
    keyring.gate = asyncio.Event()
    first = asyncio.create_task(vault.new_dek(SENDER, "document"))
    second = asyncio.create_task(vault.new_dek(SENDER, "document"))
    await asyncio.sleep(0)
    first.cancel()
    keyring.gate.set()
    assert (await second).sender_id == SENDER
    assert first.cancelled()


async def test_a_data_key_does_not_open_for_another_sender(vault: Vault, restarted: Vault) -> None:
    made = await vault.new_dek(SENDER, "document")
    for each in (vault, restarted):
        with pytest.raises(KeyringRefused, match="another sender"):
            await each.open_dek(made.row, OTHER_SENDER)


async def test_a_data_key_under_a_destroyed_sender_key_does_not_open(
    vault: Vault, restarted: Vault, rows: MemoryRows
) -> None:
    made = await vault.new_dek(SENDER, "document")
    rows.keks.clear()
    with pytest.raises(KeyringRefused, match="destroyed"):
        await restarted.open_dek(made.row, SENDER)


async def test_changed_rows_do_not_open(vault: Vault, restarted: Vault, rows: MemoryRows) -> None:
    made, other = await vault.new_dek(SENDER, "document"), await vault.new_dek(SENDER, "document")
    with pytest.raises(SealBroken):
        await vault.open_dek(replace(made.row, wrapped=other.row.wrapped), SENDER)
    with pytest.raises(SealBroken):
        await vault.open_dek(replace(made.row, dek_id=other.row.dek_id), SENDER)
    await vault.new_dek(OTHER_SENDER, "document")
    mine, theirs = rows.keks.values()
    rows.keks[mine.kek_id] = replace(mine, wrapped=theirs.wrapped)
    with pytest.raises(KeyringRefused):
        await restarted.open_dek(made.row, SENDER)


async def test_a_fields_place_is_bound_by_the_data_key(vault: Vault) -> None:
    dek = await vault.new_dek(SENDER, "meta")
    sealed = dek.seal_field(table="message", column="subject", row=b"1", value=b"Uw aanslagbiljet")
    assert dek.open_field(table="message", column="subject", row=b"1", sealed=sealed) == b"Uw aanslagbiljet"
    with pytest.raises(SealBroken):
        dek.open_field(table="message", column="subject", row=b"2", sealed=sealed)
    other = await vault.new_dek(SENDER, "meta")
    with pytest.raises(SealBroken):
        other.open_field(table="message", column="subject", row=b"1", sealed=sealed)


async def test_nothing_shows_a_key_when_it_is_printed(vault: Vault, keyring: CountingKeyring) -> None:
    dek = await vault.new_dek(SENDER, "document")
    index = await vault.blind_index("privacy")
    held = [*vault._keks._entries.values()]
    shown = f"{dek!r} {dek} {dek.row!r} {index!r} {vault!r} {held!r}"
    secrets = [dek.key, dek.row.wrapped, *index._keys.values(), *(entry.value.key for entry in held)]
    assert str(dek.row.dek_id) in shown
    for secret in secrets:
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown


async def test_an_ssin_is_indexed_as_the_format_says(vault: Vault, rows: MemoryRows, keyring: CountingKeyring) -> None:
    index = await vault.blind_index("recipient")
    (row,) = rows.index.values()
    key = await keyring.unwrap(row.wrapped, {"dgw": "index.v1", "purpose": "recipient", "version": "1"})
    assert index.of("dgw.insz", "90610100155") == hmac.digest(key, b"dgw.insz\x0090610100155", "sha256")
    assert (index.version, row.version, row.master_id) == (1, 1, "test-master")


async def test_an_index_value_stays_the_same_after_a_restart(vault: Vault, restarted: Vault) -> None:
    before, after = await vault.blind_index("recipient"), await restarted.blind_index("recipient")
    assert before.of("dgw.insz", "90610100155") == after.of("dgw.insz", "90610100155")


async def test_each_purpose_has_its_own_index_key(vault: Vault) -> None:
    indexes = [await vault.blind_index(purpose) for purpose in ("recipient", "privacy", "portal")]
    assert len({index.of("dgw.insz", "90610100155") for index in indexes}) == 3


async def test_a_rotated_index_writes_the_newest_version_and_finds_all(
    vault: Vault, rows: MemoryRows, keyring: CountingKeyring, clock: Clock
) -> None:
    old = (await vault.blind_index("recipient")).of("dgw.insz", "90610100155")
    context = {"dgw": "index.v1", "purpose": "recipient", "version": "2"}
    wrapped = await keyring.wrap(generate_key(), context)
    await rows.add_index_key(IndexKeyRow(purpose="recipient", version=2, wrapped=wrapped, master_id="test-master"))
    assert (await vault.blind_index("recipient")).version == 1
    clock.now += timedelta(minutes=5)
    index = await vault.blind_index("recipient")
    new = index.of("dgw.insz", "90610100155")
    assert index.version == 2
    assert new != old
    assert index.candidates("dgw.insz", "90610100155") == [(2, new), (1, old)]


async def test_an_index_key_moved_to_another_purpose_or_version_does_not_open(
    vault: Vault, restarted: Vault, rows: MemoryRows
) -> None:
    await vault.blind_index("recipient")
    (row,) = rows.index.values()
    await rows.add_index_key(replace(row, purpose="privacy"))
    with pytest.raises(KeyringRefused):
        await restarted.blind_index("privacy")
    await rows.add_index_key(replace(row, version=2))
    with pytest.raises(KeyringRefused):
        await restarted.blind_index("recipient")


async def test_two_replicas_that_make_the_first_index_key_at_once_agree_on_one(
    vault: Vault, restarted: Vault, keyring: CountingKeyring
) -> None:
    keyring.gate = asyncio.Event()
    both = asyncio.gather(vault.blind_index("portal"), restarted.blind_index("portal"))
    await asyncio.sleep(0)
    keyring.gate.set()
    one, other = await both
    assert len(keyring.wrapped) == 2
    assert one.of("token", "x") == other.of("token", "x")


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)


@given(one=st.lists(TEXT, min_size=2, max_size=4), other=st.lists(TEXT, min_size=2, max_size=4))
def test_index_values_are_equal_only_for_equal_fields(one: list[str], other: list[str]) -> None:
    index = BlindIndex("privacy", {1: bytes(32)})
    assert (index.of(*one) == index.of(*other)) == (one == other)


@pytest.mark.parametrize("fields", [["label"], ["label", "a\0b"], ["la\0bel", "a"]])
def test_index_fields_that_could_be_mistaken_for_others_are_refused(fields: list[str]) -> None:
    index = BlindIndex("privacy", {1: bytes(32)})
    with pytest.raises(ValueError, match="NUL"):
        index.of(*fields)
    with pytest.raises(ValueError, match="NUL"):
        index.candidates(*fields)


async def test_a_row_of_a_data_key_holds_no_clear_key(vault: Vault) -> None:
    dek = await vault.new_dek(SENDER, "log")
    assert isinstance(dek.row, DekRow)
    assert dek.key not in dek.row.wrapped
