"""
`local:/path`: master keys in a protected file, fit for production on one machine.

The file (JSON, mode 0600, UTF-8) lives as long as what it wrapped. Losing it loses every document. Keep its backup
apart from those of the ledger and the blobs: together they open everything.

    {"format": "dgw.keyring.v1",
     "current": "local-…",                                     the master that wraps
     "masters": [{"id": "local-…", "created_at": "2026-11-22T10:00:00Z", "key": "<base64 of 32 bytes>"}]}

A master id is 1 to 64 of `[a-z0-9-]`. Wrapped form, version 1 (numbers big-endian):

    off size field
      0   4  magic "DGK1" (44 47 4b 31)
      4   1  n, length of the master id          5  n  master id, ASCII
    5+n      Cobblestone-256 of the key (see `crypto/sealing.py`) under that master
    context = "dgw.master.v1" 00 || bytes[0:5+n] || for each (name, value), sorted by the UTF-8 of the name:
              length (u16) || name || length (u16) || value

Every part is preceded by its length, so two contexts never give the same bytes.
"""

import asyncio
import base64
import contextlib
import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from gateway.crypto.sealing import KEY_BYTES, SealBroken, generate_key, open_whole, seal_whole
from gateway.errors import KeyringRefused, StoreUnavailable
from gateway.stores.files import create_file, sync_directory, write_all

_FORMAT: Final = "dgw.keyring.v1"
_MAGIC: Final = b"DGK1"
_CONTEXT: Final = b"dgw.master.v1\0"
_MASTER_ID: Final = re.compile(r"[a-z0-9-]{1,64}\Z")
_LONGEST_KEY_BYTES: Final = 4_096  # what key management services take, so that a keyring can be exchanged
_LARGEST_FILE_BYTES: Final = 1_048_576
_ID_AT: Final = len(_MAGIC) + 1


class LocalKeyring:
    """
    A `Keyring` on a file; its promises stand in `stores/keyring.py`.

    Made by `open`. The file is read once: after `rotate`, open it anew.
    """

    def __init__(self, masters: Mapping[str, bytes], current: str) -> None:
        self._masters = dict(masters)
        self._current = current

    def __repr__(self) -> str:
        """Name the current master, never a key."""
        return f"LocalKeyring({self._current})"

    @classmethod
    async def open(cls, path: Path) -> Self:
        """
        Read the keyring file.

        Raises:
            KeyringRefused: no such file, not a regular file, open to group or others, or not a keyring; says the fix.
            StoreUnavailable: the file cannot be read.
        """
        document = await asyncio.to_thread(_read, path)
        return cls({entry["id"]: _key_of(entry) for entry in document["masters"]}, document["current"])

    @staticmethod
    async def create(path: Path, *, at: datetime) -> str:
        """
        Make a new keyring file with one master key, durably, and return that master's id.

        Only ever called on purpose, for a new installation: a new keyring opens nothing an old one wrapped.

        Raises:
            KeyringRefused: a file is there already; it is untouched.
            StoreUnavailable: the file cannot be written; nothing is kept.
        """
        return await asyncio.to_thread(_create, path, at)

    @staticmethod
    async def rotate(path: Path, *, at: datetime) -> str:
        """
        Add a master key and make it current, durably; the old ones stay. Returns the new master's id.

        Running gateways go on with what they have read, and cannot open what the new master wraps until they
        open the file anew.

        Raises:
            KeyringRefused: as for `open`, or another rotation is under way.
            StoreUnavailable: the file cannot be written and is as it was; or it is the new one already, old masters
                included, but may not survive a power cut: make sure of the disk, then rotate again.
        """
        return await asyncio.to_thread(_rotate, path, at)

    @property
    def master_id(self) -> str:
        """See `Keyring.master_id`."""
        return self._current

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """See `Keyring.wrap`."""
        if not 0 < len(key) <= _LONGEST_KEY_BYTES:
            raise ValueError("a key to wrap has 1 to 4096 bytes")
        head = _MAGIC + bytes([len(self._current)]) + self._current.encode("ascii")
        return head + seal_whole(self._master(self._current), _bound(head, context), key)

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """See `Keyring.unwrap`."""
        if len(wrapped) < _ID_AT or wrapped[: len(_MAGIC)] != _MAGIC:
            raise KeyringRefused("not a key that a local keyring wrapped")
        head_bytes = _ID_AT + wrapped[_ID_AT - 1]
        head, sealed = wrapped[:head_bytes], wrapped[head_bytes:]
        master = self._master(head[_ID_AT:].decode("ascii", "replace"))
        try:
            return open_whole(master, _bound(head, context), sealed)
        except SealBroken as exc:
            raise KeyringRefused("the wrapped key was changed, or wrapped for another context") from exc

    async def close(self) -> None:
        """See `Keyring.close`."""
        self._masters.clear()

    def _master(self, master_id: str) -> bytes:
        try:
            return self._masters[master_id]
        except KeyError:
            shown = master_id if _MASTER_ID.match(master_id) else "of no valid id"
            raise KeyringRefused(f"this keyring does not hold the master key {shown}") from None


def path_of(uri: str) -> Path:
    """
    Return the path in a `local:/path` URI.

    Raises:
        ValueError: another scheme, or the path is not absolute.
    """
    scheme, _, path = uri.partition(":")
    if scheme != "local" or not path.startswith("/"):
        raise ValueError("a local keyring is written as local:/absolute/path")
    return Path(path)


def _bound(head: bytes, context: Mapping[str, str]) -> bytes:
    pairs = sorted((name.encode(), value.encode()) for name, value in context.items())
    parts = (len(part).to_bytes(2, "big") + part for pair in pairs for part in pair)
    return _CONTEXT + head + b"".join(parts)


def _create(path: Path, at: datetime) -> str:
    master = _new_master(at)
    with _translated(path):
        with _draft(path) as (draft, fd):
            _write(fd, {"format": _FORMAT, "current": master["id"], "masters": [master]})
            try:
                os.link(draft, path)  # unlike a rename, never over an existing file
            except FileExistsError:
                raise KeyringRefused(f"{path} exists already; a keyring is never overwritten") from None
            draft.unlink()
        try:
            sync_directory(path.parent)
        except OSError:
            path.unlink()  # nothing was wrapped with it yet
            raise
    return master["id"]


def _rotate(path: Path, at: datetime) -> str:
    master = _new_master(at)
    with _translated(path):
        with _draft(path) as (draft, fd):
            document = _read(path)
            _write(fd, document | {"current": master["id"], "masters": [*document["masters"], master]})
            draft.replace(path)
        sync_directory(path.parent)
    return master["id"]


def _new_master(at: datetime) -> dict[str, str]:
    return {
        "id": f"local-{secrets.token_hex(8)}",
        "created_at": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "key": base64.b64encode(generate_key()).decode("ascii"),
    }


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[tuple[Path, int]]:
    """Hold the file that will take the place of `path`. Its name is the lock: two changes never overlap."""
    draft = path.with_name(f"{path.name}.new")
    try:
        fd = create_file(draft)
    except FileExistsError:
        raise KeyringRefused(
            f"{draft} exists: the keyring is being changed, or a change died; if none is running, remove that file"
        ) from None
    try:
        yield draft, fd
    except BaseException:
        with contextlib.suppress(OSError):  # the error under way says more, and the leftover names itself next time
            draft.unlink()
        raise
    finally:
        os.close(fd)


def _write(fd: int, document: Mapping[str, Any]) -> None:
    write_all(fd, json.dumps(document, indent=2).encode() + b"\n")
    os.fsync(fd)


def _read(path: Path) -> dict[str, Any]:
    with _translated(path):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe must not hold us up
        except FileNotFoundError:
            raise KeyringRefused(
                f"there is no keyring file {path}: restore it from its backup, or create one for a new installation"
            ) from None
        try:
            _check_protection(path, os.fstat(fd))
            with os.fdopen(fd, "rb", closefd=False) as file:
                raw = file.read(_LARGEST_FILE_BYTES + 1)
        finally:
            os.close(fd)
    return _checked(path, raw)


def _check_protection(path: Path, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise KeyringRefused(f"{path} is not a regular file")
    if stat.S_IMODE(state.st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyringRefused(f"{path} is open to others than its owner; run: chmod 600 {path}")


def _checked(path: Path, raw: bytes) -> dict[str, Any]:
    """Return the parsed file if every rule of the format holds. The error never repeats what stands in the file."""
    try:
        document = json.loads(raw, object_pairs_hook=_without_duplicates)
        holds = len(raw) <= _LARGEST_FILE_BYTES and _holds_format(document)
    except (ValueError, TypeError, AttributeError, RecursionError):
        holds, document = False, {}
    if not holds:
        raise KeyringRefused(f"{path} is not a keyring of format {_FORMAT}; restore it from its backup")
    return dict(document)


def _holds_format(document: Any) -> bool:
    """Tell whether every rule holds; a value of a wrong type may also raise what `_checked` catches."""
    if document.keys() != {"format", "current", "masters"} or document["format"] != _FORMAT:
        return False
    ids = [entry["id"] for entry in document["masters"] if _is_master(entry)]
    return len(ids) == len(document["masters"]) == len(set(ids)) and document["current"] in ids


def _is_master(entry: Any) -> bool:
    return (
        entry.keys() == {"id", "created_at", "key"}
        and _MASTER_ID.match(entry["id"]) is not None
        and datetime.fromisoformat(entry["created_at"]).tzinfo is not None
        and len(_key_of(entry)) == KEY_BYTES
    )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _key_of(entry: Mapping[str, str]) -> bytes:
    return base64.b64decode(entry["key"], validate=True)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        reason = errno.errorcode.get(exc.errno or 0, "unknown error")
        raise StoreUnavailable(f"the keyring file {path} cannot be used: {reason}") from exc
