"""The files that the contract is published in, as they are sent."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

_ETAG_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """One file; `media_type` as in Content-Type, with its charset where it has one. `headers` go along with it."""

    content: bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        """The entity tag, without its quotes: the same bytes have the same one on every replica."""
        return hashlib.sha256(self.content).hexdigest()[:_ETAG_DIGITS]


Contract = Mapping[str, PublishedFile]
"""The published files by the path under which they are found below `/api/v1/`."""
