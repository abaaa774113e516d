"""
The keyring: where master keys live, and what the gateway asks of it.

A master key wraps only the keys of senders and of blind indexes (`crypto/vault.py`), so it is asked seldom and never
sees a document. An embedded keyring is a protected file (`local_keys.py`); a key management service is its twin.
"""

from collections.abc import Mapping
from typing import Protocol


class Keyring(Protocol):
    """
    Wraps and unwraps keys under master keys that never leave it.

    Promises of every implementation:

    - A master key is never returned, logged or written anywhere else.
    - `context` is authenticated: what was wrapped for one context opens for exactly that one, key by key and value by
      value. It is not secret (a key management service logs it), so it holds ids and never personal data.
    - The wrapped form names its master key, so a keyring that moved on to a new master still opens what an old one
      wrapped, for as long as it holds the old one.
    - Safe to call from many tasks at once. Nothing is cached here; the vault caches.
    """

    @property
    def master_id(self) -> str:
        """The id of the master key that `wrap` uses; the same for the whole life of this object."""
        ...

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """
        Return `key` (1 to 4096 bytes) wrapped under the current master key.

        Raises:
            KeyringRefused: the master key is disabled or destroyed, or we may not use it.
            StoreUnavailable: the keyring cannot be reached; try again later.
            ValueError: `key` is empty or too long.
        """
        ...

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """
        Return the key that was wrapped for this context.

        Raises:
            KeyringRefused: another context, changed bytes, or a master key this keyring does not hold.
            StoreUnavailable: the keyring cannot be reached; try again later.
        """
        ...

    async def close(self) -> None:
        """Give back connections and forget what is held in memory; may be called twice."""
        ...
