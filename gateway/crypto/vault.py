"""
The key hierarchy: master key -> sender key (KEK) -> data key (DEK), and the keys of blind indexes.

- The **master** key never leaves the keyring. It wraps KEKs with the context `{"dgw": "kek.v1", "kek": …, "sender": …}`
  and index keys with `{"dgw": "index.v1", "purpose": …, "version": …}`; ids in their usual text form.
- One **KEK** for each sender and UTC year wraps that sender's DEKs (`crypto/sealing.py`, "Wrapped key").
- One **DEK** for each document seals its blob; one `meta` DEK for each message seals its fields; one `log` DEK for each
  sender and year seals log entries. Destroying the row of a DEK erases what it sealed, in every copy.
- One **index key** for each purpose and version makes personal data searchable without storing it:

      index = HMAC-SHA-256(K_v, label 00 field 00 field …), 32 bytes

  label and fields as UTF-8 without NUL, joined by single NULs, so two lists of fields never give the same bytes. For an
  SSIN it is HMAC-SHA-256(K_v, "dgw.insz" 00 || 11 digits). SSINs are few enough to enumerate: only the key protects, so
  an index value is as personal as the SSIN. It is kept beside its version.

These formats live ten years. Opened KEKs and index keys are used for at most five minutes and 100 000 times, then
fetched anew; expired ones are dropped when another is fetched. Python cannot wipe memory: they go when it is reused.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Generic, Literal, Protocol, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

from gateway.crypto.sealing import generate_key, open_field, seal_field, unwrap_key, wrap_key
from gateway.errors import KeyringRefused

DekPurpose = Literal["document", "meta", "log"]
IndexPurpose = Literal["recipient", "privacy", "portal"]

KEYS_HELD_FOR: Final = timedelta(seconds=300)
KEY_USES: Final = 100_000

_T = TypeVar("_T")
_FIRST_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KekRow:
    """A sender's key-encryption key of one UTC year, wrapped by the master key `master_id`."""

    kek_id: UUID
    sender_id: UUID
    year: int
    master_id: str
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DekRow:
    """A data key, wrapped (104 bytes) by the KEK `kek_id`. Destroying it in the ledger erases what it sealed."""

    dek_id: UUID
    kek_id: UUID
    purpose: DekPurpose
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexKeyRow:
    """One version of a blind index's key, wrapped by the master key `master_id`. Versions count from 1."""

    purpose: str
    version: int
    wrapped: bytes = field(repr=False)
    master_id: str


class KeyRows(Protocol):
    """What the vault needs of the ledger. Everything returned is committed; `StoreUnavailable` when it is away."""

    async def kek(self, kek_id: UUID) -> KekRow | None:
        """Return this KEK, or None."""
        ...

    async def kek_for(self, sender_id: UUID, year: int) -> KekRow | None:
        """Return the KEK in force for new keys of this sender in this year, or None."""
        ...

    async def add_kek(self, row: KekRow) -> KekRow:
        """Insert `row` unless its sender and year have a KEK in force; return the one in force (the first wins)."""
        ...

    async def index_keys(self, purpose: str) -> list[IndexKeyRow]:
        """Return all versions of this purpose's key."""
        ...

    async def add_index_key(self, row: IndexKeyRow) -> IndexKeyRow:
        """Insert `row` unless its purpose has this version; return the one in force (the first wins)."""
        ...


class MasterKeys(Protocol):
    """What the vault needs of a keyring; the promises stand in `stores/keyring.py`, whose `Keyring` is one."""

    @property
    def master_id(self) -> str:
        """The id of the master key that `wrap` uses."""
        ...

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Return `key` wrapped for this context; `KeyringRefused` or `StoreUnavailable` if it cannot."""
        ...

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Return the key wrapped for this context; `KeyringRefused` or `StoreUnavailable` if it cannot."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dek:
    """An opened data key. Keep it for the work at hand only, never in a cache."""

    row: DekRow
    sender_id: UUID
    key: bytes = field(repr=False)

    def seal_field(self, *, table: str, column: str, row: bytes, value: bytes) -> bytes:
        """Return `value` sealed for one place in the ledger; see `sealing.seal_field`."""
        return seal_field(self.key, table=table, column=column, row=row, value=value)

    def open_field(self, *, table: str, column: str, row: bytes, sealed: bytes) -> bytes:
        """
        Return the value sealed for this place.

        Raises:
            SealBroken: sealed under another key or for another place, or changed.
        """
        return open_field(self.key, table=table, column=column, row=row, sealed=sealed)


class BlindIndex:
    """The keyed index of one purpose, in all its versions. Use it for one request and ask the vault again."""

    def __init__(self, purpose: IndexPurpose, keys: Mapping[int, bytes]) -> None:
        self._purpose = purpose
        self._keys = {version: keys[version] for version in sorted(keys, reverse=True)}
        self._version = next(iter(self._keys))

    def __repr__(self) -> str:
        """Name the purpose and version, never a key."""
        return f"BlindIndex({self._purpose}, version {self._version})"

    @property
    def version(self) -> int:
        """The version that `of` uses, the newest; stored beside the value."""
        return self._version

    def of(self, label: str, *fields: str) -> bytes:
        """
        Return the 32-byte index value of `fields` under the newest version. What is alike must be spelt alike before.

        Raises:
            ValueError: no field, or a NUL in the label or a field.
        """
        return hmac.digest(self._keys[self._version], _index_message(label, fields), "sha256")

    def candidates(self, label: str, *fields: str) -> list[tuple[int, bytes]]:
        """Return (version, value) for every version, newest first; a query asks for all: a rotation hides nothing."""
        message = _index_message(label, fields)
        return [(version, hmac.digest(key, message, "sha256")) for version, key in self._keys.items()]


class Vault:
    """
    Makes and opens data keys and blind indexes.

    `clock` gives aware UTC times; `ids` mints key ids. Safe to use from many tasks of one event loop: a key that many
    wait for is fetched once.
    """

    def __init__(
        self,
        keyring: MasterKeys,
        rows: KeyRows,
        clock: Callable[[], datetime],
        ids: Callable[[], UUID],
    ) -> None:
        self._keyring = keyring
        self._rows = rows
        self._clock = clock
        self._ids = ids
        self._keks: _Held[_Kek] = _Held(clock)
        self._indexes: _Held[BlindIndex] = _Held(clock)

    async def new_dek(self, sender_id: UUID, purpose: DekPurpose) -> Dek:
        """
        Return a new data key of this sender, whose `row` the caller commits together with what the key seals.

        Makes and commits the sender's KEK of the year when there is none.

        Raises:
            KeyringRefused: the keyring would not wrap or unwrap the KEK.
            StoreUnavailable: the ledger or the keyring is away.
        """
        year = self._clock().year
        kek = await self._keks.get((sender_id, year), lambda: self._load_current(sender_id, year))
        dek_id, key = self._ids(), generate_key()
        wrapped = wrap_key(kek.key, key, dek_id=dek_id, sender_id=sender_id, kek_id=kek.kek_id)
        row = DekRow(dek_id=dek_id, kek_id=kek.kek_id, purpose=purpose, wrapped=wrapped)
        return Dek(row=row, sender_id=sender_id, key=key)

    async def open_dek(self, row: DekRow, sender_id: UUID) -> Dek:
        """
        Open a data key of this sender.

        Raises:
            KeyringRefused: the KEK was destroyed or is another sender's, or the keyring would not unwrap it.
            SealBroken: the row was changed, or is not this sender's.
            StoreUnavailable: the ledger or the keyring is away.
        """
        kek = await self._keks.get((sender_id, row.kek_id), lambda: self._load(row.kek_id, sender_id))
        key = unwrap_key(kek.key, row.wrapped, dek_id=row.dek_id, sender_id=sender_id, kek_id=kek.kek_id)
        return Dek(row=row, sender_id=sender_id, key=key)

    async def blind_index(self, purpose: IndexPurpose) -> BlindIndex:
        """
        Return the blind index of this purpose; makes and commits its first key when there is none.

        A version added elsewhere is seen within five minutes. Until every replica has seen it, they write different
        versions; so a new version is added, five minutes pass, and only then is the old one back-filled.

        Raises:
            KeyringRefused: the keyring would not wrap or unwrap a key.
            StoreUnavailable: the ledger or the keyring is away.
        """
        return await self._indexes.get(purpose, lambda: self._load_index(purpose))

    def forget(self) -> None:
        """Drop every key held in memory, for example when keys were changed by hand."""
        self._keks.clear()
        self._indexes.clear()

    async def _load_current(self, sender_id: UUID, year: int) -> "_Kek":
        row = await self._rows.kek_for(sender_id, year)
        if row is not None:
            return await self._open_kek(row)
        kek_id, key = self._ids(), generate_key()
        made = KekRow(
            kek_id=kek_id,
            sender_id=sender_id,
            year=year,
            master_id=self._keyring.master_id,
            wrapped=await self._keyring.wrap(key, _kek_context(kek_id, sender_id)),
        )
        in_force = await self._rows.add_kek(made)
        # Opened also when it is ours: a keyring that cannot open its own work is found before anything is sealed.
        return await self._open_kek(in_force)

    async def _load(self, kek_id: UUID, sender_id: UUID) -> "_Kek":
        row = await self._rows.kek(kek_id)
        if row is None:
            raise KeyringRefused(f"there is no sender key {kek_id}; it was destroyed")
        if row.sender_id != sender_id:
            raise KeyringRefused(f"the sender key {kek_id} is another sender's")
        return await self._open_kek(row)

    async def _open_kek(self, row: KekRow) -> "_Kek":
        key = await self._keyring.unwrap(row.wrapped, _kek_context(row.kek_id, row.sender_id))
        return _Kek(kek_id=row.kek_id, key=key)

    async def _load_index(self, purpose: IndexPurpose) -> BlindIndex:
        rows = await self._rows.index_keys(purpose) or [await self._first_index_key(purpose)]
        return BlindIndex(
            purpose,
            {
                row.version: await self._keyring.unwrap(row.wrapped, _index_context(purpose, row.version))
                for row in rows
            },
        )

    async def _first_index_key(self, purpose: IndexPurpose) -> IndexKeyRow:
        made = IndexKeyRow(
            purpose=purpose,
            version=_FIRST_VERSION,
            wrapped=await self._keyring.wrap(generate_key(), _index_context(purpose, _FIRST_VERSION)),
            master_id=self._keyring.master_id,
        )
        return await self._rows.add_index_key(made)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kek:
    kek_id: UUID
    key: bytes = field(repr=False)


class _Held(Generic[_T]):
    """Opened keys by name, each for `KEYS_HELD_FOR` and `KEY_USES` at most, and loaded once for all who wait."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._entries: dict[Hashable, _Entry[_T]] = {}
        self._loading: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    async def get(self, name: Hashable, load: Callable[[], Awaitable[_T]]) -> _T:
        entry = self._usable(name)
        if entry is None:
            async with self._lock(name):
                entry = self._usable(name) or await self._load(name, load)
        entry.uses_left -= 1
        return entry.value

    def clear(self) -> None:
        self._entries = {}

    async def _load(self, name: Hashable, load: Callable[[], Awaitable[_T]]) -> "_Entry[_T]":
        self._drop_expired()
        entries = self._entries  # a load that `clear` overtakes ends in the dictionary thrown away
        loaded_at = self._clock()
        entry = _Entry(value=await load(), loaded_at=loaded_at, uses_left=KEY_USES)
        entries[name] = entry
        return entry

    def _usable(self, name: Hashable) -> "_Entry[_T] | None":
        entry = self._entries.get(name)
        if entry is None or entry.uses_left <= 0 or not self._is_fresh(entry):
            return None
        return entry

    def _is_fresh(self, entry: "_Entry[_T]") -> bool:
        # A clock set back must not lengthen the life of a key.
        return timedelta(0) <= self._clock() - entry.loaded_at < KEYS_HELD_FOR

    def _drop_expired(self) -> None:
        for name in [name for name, entry in self._entries.items() if not self._is_fresh(entry)]:
            del self._entries[name]

    def _lock(self, name: Hashable) -> asyncio.Lock:
        lock = self._loading.get(name)
        if lock is None:
            lock = self._loading[name] = asyncio.Lock()
        return lock


@dataclass(slots=True, kw_only=True)
class _Entry(Generic[_T]):
    value: _T
    loaded_at: datetime
    uses_left: int


def _kek_context(kek_id: UUID, sender_id: UUID) -> dict[str, str]:
    return {"dgw": "kek.v1", "kek": str(kek_id), "sender": str(sender_id)}


def _index_context(purpose: str, version: int) -> dict[str, str]:
    return {"dgw": "index.v1", "purpose": purpose, "version": str(version)}


def _index_message(label: str, fields: tuple[str, ...]) -> bytes:
    if not fields or any("\0" in text for text in (label, *fields)):
        raise ValueError("a blind index takes at least one field, and no NUL in it or in its label")
    return "\0".join((label, *fields)).encode()
