"""The promises of `Keyring`, held against every implementation; then what only a file can get wrong."""

import asyncio
import base64
import errno
import json
import os
import stat
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.crypto.sealing import open_whole
from gateway.errors import KeyringRefused, StoreUnavailable
from gateway.stores.keyring import Keyring
from gateway.stores.local_keys import LocalKeyring, path_of

AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
KEY = bytes(range(32))
CONTEXT = {"dgw": "kek.v1", "kek": "0b7e", "sender": "77aa"}


@pytest.fixture(params=["local"])
async def keyring(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Keyring]:
    async def local() -> Keyring:
        await LocalKeyring.create(tmp_path / "keyring.json", at=AT)
        return await LocalKeyring.open(tmp_path / "keyring.json")

    opened = await {"local": local}[request.param]()
    yield opened
    await opened.close()


@pytest.mark.parametrize("size", [1, 16, 32, 4096])
async def test_a_wrapped_key_opens_for_its_context(keyring: Keyring, size: int) -> None:
    key = bytes(i % 256 for i in range(size))
    wrapped = await keyring.wrap(key, CONTEXT)
    assert key[:16] not in wrapped or size < 16  # fewer bytes occur by chance
    assert await keyring.unwrap(wrapped, CONTEXT) == key
    assert await keyring.unwrap(wrapped, dict(reversed(CONTEXT.items()))) == key


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"dgw": "kek.v1", "kek": "0b7e"},
        CONTEXT | {"sender": "77ab"},
        CONTEXT | {"sender": ""},
        CONTEXT | {"more": "x"},
        {"dgw": "kek.v1", "kek": "0b7esender77aa"},
        {"dgw": "kek.v1", "kek": "77aa", "sender": "0b7e"},
        {"Dgw": "kek.v1", "kek": "0b7e", "sender": "77aa"},
    ],
)
async def test_a_wrapped_key_is_refused_for_another_context(keyring: Keyring, other: dict[str, str]) -> None:
    wrapped = await keyring.wrap(KEY, CONTEXT)
    with pytest.raises(KeyringRefused):
        await keyring.unwrap(wrapped, other)


async def test_every_changed_byte_of_a_wrapped_key_is_refused(keyring: Keyring) -> None:
    wrapped = await keyring.wrap(KEY, CONTEXT)
    for position in range(len(wrapped)):
        changed = bytearray(wrapped)
        changed[position] ^= 0x01
        with pytest.raises(KeyringRefused):
            await keyring.unwrap(bytes(changed), CONTEXT)


async def test_a_cut_or_lengthened_wrapped_key_is_refused(keyring: Keyring) -> None:
    wrapped = await keyring.wrap(KEY, CONTEXT)
    for cut in range(len(wrapped)):
        with pytest.raises(KeyringRefused):
            await keyring.unwrap(wrapped[:cut], CONTEXT)
    with pytest.raises(KeyringRefused):
        await keyring.unwrap(wrapped + b"\0", CONTEXT)


async def test_wrapping_twice_gives_different_bytes(keyring: Keyring) -> None:
    assert await keyring.wrap(KEY, CONTEXT) != await keyring.wrap(KEY, CONTEXT)


@pytest.mark.parametrize("size", [0, 4097])
async def test_a_key_of_no_bytes_or_too_many_is_not_wrapped(keyring: Keyring, size: int) -> None:
    with pytest.raises(ValueError, match="4096"):
        await keyring.wrap(bytes(size), CONTEXT)


async def test_a_keyring_names_its_master_key(keyring: Keyring) -> None:
    assert keyring.master_id
    assert keyring.master_id.encode() in await keyring.wrap(KEY, CONTEXT)


async def test_a_closed_keyring_opens_nothing(keyring: Keyring) -> None:
    wrapped = await keyring.wrap(KEY, CONTEXT)
    await keyring.close()
    await keyring.close()
    with pytest.raises(KeyringRefused):
        await keyring.unwrap(wrapped, CONTEXT)


# What only a file can get wrong.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring.json"


async def read(path: Path) -> dict[str, Any]:
    document = json.loads(await asyncio.to_thread(path.read_text))
    assert isinstance(document, dict)
    return document


async def write(path: Path, text: str) -> None:
    await asyncio.to_thread(path.write_text, text)
    await asyncio.to_thread(path.chmod, 0o600)


async def names(path: Path) -> list[str]:
    return sorted(await asyncio.to_thread(os.listdir, path.parent))


async def test_the_file_and_the_wrapped_form_are_as_documented(path: Path) -> None:
    master_id = await LocalKeyring.create(path, at=AT)
    document = await read(path)
    (master,) = document.pop("masters")
    assert document == {"format": "dgw.keyring.v1", "current": master_id}
    assert (master["id"], master["created_at"]) == (master_id, "2026-11-22T10:00:00Z")
    wrapped = await (await LocalKeyring.open(path)).wrap(KEY, {"b": "2", "aa": "1"})
    head = b"DGK1" + bytes([len(master_id)]) + master_id.encode()
    assert wrapped.startswith(head)
    context = b"dgw.master.v1\0" + head + b"\0\2aa\0\x011\0\1b\0\x012"
    assert open_whole(base64.b64decode(master["key"]), context, wrapped[len(head) :]) == KEY


async def test_a_wrapped_key_opens_after_a_restart(path: Path) -> None:
    await LocalKeyring.create(path, at=AT)
    wrapped = await (await LocalKeyring.open(path)).wrap(KEY, CONTEXT)
    assert await (await LocalKeyring.open(path)).unwrap(wrapped, CONTEXT) == KEY


async def test_a_rotated_keyring_wraps_with_the_new_master_and_opens_what_the_old_one_wrapped(path: Path) -> None:
    first = await LocalKeyring.create(path, at=AT)
    before = await LocalKeyring.open(path)
    old = await before.wrap(KEY, CONTEXT)
    second = await LocalKeyring.rotate(path, at=AT)
    after = await LocalKeyring.open(path)
    new = await after.wrap(KEY, CONTEXT)
    assert (before.master_id, after.master_id) == (first, second)
    assert first != second
    assert await after.unwrap(old, CONTEXT) == await after.unwrap(new, CONTEXT) == KEY
    with pytest.raises(KeyringRefused, match=f"does not hold the master key {second}"):
        await before.unwrap(new, CONTEXT)
    assert await names(path) == ["keyring.json"]


async def test_what_one_keyring_wrapped_another_does_not_open(path: Path, tmp_path: Path) -> None:
    await LocalKeyring.create(path, at=AT)
    await LocalKeyring.create(tmp_path / "other.json", at=AT)
    wrapped = await (await LocalKeyring.open(path)).wrap(KEY, CONTEXT)
    with pytest.raises(KeyringRefused):
        await (await LocalKeyring.open(tmp_path / "other.json")).unwrap(wrapped, CONTEXT)


async def test_the_file_is_created_0600_even_under_a_loose_umask(path: Path) -> None:
    previous = os.umask(0)
    try:
        await LocalKeyring.create(path, at=AT)
        await LocalKeyring.rotate(path, at=AT)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((await asyncio.to_thread(path.stat)).st_mode) == 0o600


async def test_a_keyring_is_never_overwritten(path: Path) -> None:
    await LocalKeyring.create(path, at=AT)
    before = await read(path)
    with pytest.raises(KeyringRefused, match="never overwritten"):
        await LocalKeyring.create(path, at=AT)
    assert await read(path) == before
    assert await names(path) == ["keyring.json"]


async def test_a_missing_file_is_refused_with_the_fix_and_not_made(path: Path) -> None:
    with pytest.raises(KeyringRefused, match="restore it from its backup, or create one"):
        await LocalKeyring.open(path)
    with pytest.raises(KeyringRefused, match="restore it from its backup, or create one"):
        await LocalKeyring.rotate(path, at=AT)
    assert await names(path) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666])
async def test_a_file_open_to_others_is_refused_with_the_fix(path: Path, mode: int) -> None:
    await LocalKeyring.create(path, at=AT)
    await asyncio.to_thread(path.chmod, mode)
    with pytest.raises(KeyringRefused, match="chmod 600"):
        await LocalKeyring.open(path)


@pytest.mark.parametrize("mode", [0o600, 0o400])
async def test_a_file_for_its_owner_only_is_taken(path: Path, mode: int) -> None:
    master_id = await LocalKeyring.create(path, at=AT)
    await asyncio.to_thread(path.chmod, mode)
    assert (await LocalKeyring.open(path)).master_id == master_id


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
async def test_what_is_no_regular_file_is_refused(path: Path, make: Callable[[Path, int], None]) -> None:
    await asyncio.to_thread(make, path, 0o600)
    with pytest.raises(KeyringRefused, match="not a regular file"):
        await LocalKeyring.open(path)


async def test_a_file_behind_a_link_is_taken(path: Path, tmp_path: Path) -> None:
    master_id = await LocalKeyring.create(path, at=AT)
    await asyncio.to_thread((tmp_path / "link.json").symlink_to, path)
    assert (await LocalKeyring.open(tmp_path / "link.json")).master_id == master_id


KEY_TEXT = base64.b64encode(b"\xa5" * 32).decode()
MASTER = {"id": "local-1", "created_at": "2026-11-22T10:00:00Z", "key": KEY_TEXT}
GOOD: dict[str, Any] = {"format": "dgw.keyring.v1", "current": "local-1", "masters": [MASTER]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        json.dumps(GOOD | {"format": "dgw.keyring.v2"}),
        json.dumps(GOOD | {"comment": "unknown"}),
        json.dumps({name: value for name, value in GOOD.items() if name != "current"}),
        json.dumps(GOOD | {"current": "local-2"}),
        json.dumps(GOOD | {"masters": []}),
        json.dumps(GOOD | {"masters": MASTER}),
        json.dumps(GOOD | {"masters": [MASTER, MASTER]}),
        json.dumps(GOOD | {"masters": [MASTER, "local-2"]}),
        json.dumps(GOOD | {"masters": [MASTER | {"id": "../x"}], "current": "../x"}),
        json.dumps(GOOD | {"masters": [MASTER | {"id": "x" * 65}], "current": "x" * 65}),
        json.dumps(GOOD | {"masters": [MASTER | {"key": KEY_TEXT[:-4]}]}),
        json.dumps(GOOD | {"masters": [MASTER | {"key": "!" + KEY_TEXT}]}),
        json.dumps(GOOD | {"masters": [MASTER | {"key": 5}]}),
        json.dumps(GOOD | {"masters": [MASTER | {"created_at": "yesterday"}]}),
        json.dumps(GOOD | {"masters": [MASTER | {"created_at": "2026-11-22T10:00:00"}]}),
        json.dumps(GOOD | {"masters": [MASTER | {"retired": "no"}]}),
        json.dumps(GOOD).replace('"current"', '"current": "local-1", "current"'),
        json.dumps(GOOD) + " " * 1_048_576,
    ],
)
async def test_a_file_that_breaks_a_rule_of_the_format_is_refused_without_showing_it(path: Path, text: str) -> None:
    await write(path, json.dumps(GOOD))
    await LocalKeyring.open(path)
    await write(path, text)
    with pytest.raises(KeyringRefused, match=r"not a keyring of format dgw\.keyring\.v1") as caught:
        await LocalKeyring.open(path)
    assert KEY_TEXT[:8] not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


async def test_nothing_shows_a_master_key_when_it_is_printed(path: Path) -> None:
    await write(path, json.dumps(GOOD))
    shown = repr(await LocalKeyring.open(path))
    assert shown == "LocalKeyring(local-1)"


def fails(monkeypatch: pytest.MonkeyPatch, name: str, nth: int) -> None:
    """Let the nth call of `os.<name>` fail with EIO."""
    real: Callable[..., Any] = getattr(os, name)
    calls = iter(range(1, 100))

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == nth:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, failing)


@pytest.mark.parametrize(("name", "nth"), [("open", 1), ("write", 1), ("fsync", 1), ("link", 1), ("fsync", 2)])
async def test_a_disk_error_while_creating_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, nth: int
) -> None:
    with monkeypatch.context() as patch:
        fails(patch, name, nth)
        with pytest.raises(StoreUnavailable, match="EIO"):
            await LocalKeyring.create(path, at=AT)
    assert await names(path) == []
    await LocalKeyring.create(path, at=AT)


@pytest.mark.parametrize(("name", "nth"), [("open", 1), ("open", 2), ("write", 1), ("fsync", 1), ("replace", 1)])
async def test_a_disk_error_while_rotating_leaves_the_keyring_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, nth: int
) -> None:
    master_id = await LocalKeyring.create(path, at=AT)
    with monkeypatch.context() as patch:
        fails(patch, name, nth)
        with pytest.raises(StoreUnavailable, match="EIO"):
            await LocalKeyring.rotate(path, at=AT)
    assert (await LocalKeyring.open(path)).master_id == master_id
    assert await names(path) == ["keyring.json"]
    assert await LocalKeyring.rotate(path, at=AT) != master_id


async def test_two_rotations_at_once_lose_no_master_key(path: Path) -> None:
    made = {await LocalKeyring.create(path, at=AT)}
    results = await asyncio.gather(*(LocalKeyring.rotate(path, at=AT) for _ in range(8)), return_exceptions=True)
    made |= {result for result in results if isinstance(result, str)}
    assert {type(result) for result in results} <= {str, KeyringRefused}
    assert {master["id"] for master in (await read(path))["masters"]} == made
    assert await names(path) == ["keyring.json"]


async def test_the_leftover_of_a_change_that_died_is_named_with_the_fix(path: Path) -> None:
    await LocalKeyring.create(path, at=AT)
    await write(path.with_name("keyring.json.new"), "half a keyr")
    with pytest.raises(KeyringRefused, match=r"keyring\.json\.new exists.*remove that file"):
        await LocalKeyring.rotate(path, at=AT)
    assert (await LocalKeyring.open(path)).master_id


def test_a_local_uri_names_an_absolute_path() -> None:
    assert path_of("local:/var/lib/gateway/keyring.json") == Path("/var/lib/gateway/keyring.json")
    for uri in ("local:keyring.json", "local:", "file:/x", "/x", "LOCAL:/x"):
        with pytest.raises(ValueError, match="local:/absolute/path"):
            path_of(uri)
