"""What the contract says of one method on one path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from gateway.errors import Kind
from gateway.intake.contract.shapes import Schema


class Group(StrEnum):
    """What operations belong together, in the order of the documentation."""

    SEND = "Send letters"
    FOLLOW = "Follow letters"
    PROVE = "Prove it"
    DOSSIERS = "Dossiers"
    ACCOUNT = "You and the gateway"
    CONTRACT = "This contract"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of the path, the query or the header."""

    name: str
    where: Literal["path", "query", "header"]
    schema: Schema
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A body of one media type; `example` None: none is shown."""

    schema: Schema
    example: Any = None
    encoding: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What is sent; by media type."""

    description: str
    content: Mapping[str, Content]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer that is no problem; headers are names of `openapi.HEADERS`."""

    status: int
    description: str
    content: Mapping[str, Content] = field(default_factory=dict)
    headers: Sequence[str] = ()
    sometimes_headers: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """
    One method on one path.

    `problems` are the codes that this operation gives besides those that follow from how its caller is known
    (`openapi.problems_of`).
    """

    method: str
    path: str
    name: str
    group: Group
    summary: str
    description: str
    parameters: Sequence[Parameter] = ()
    body: Body | None = None
    answers: Sequence[Answer]
    problems: frozenset[Kind] = frozenset()
