"""
What every command of the staff shares: it asks the running gateway over its admin socket, and tells the answer.

Exit codes: 0 done; 1 refused, by the gateway or by the system; 2 wrong use, or a configuration that cannot be read;
3 the gateway is not running, or its answer was lost.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from gateway.admin import tables
from gateway.admin.client import AnswerLost, NoAccess, NotRunning, ask
from gateway.admin.interface import reason_refused
from gateway.config import ConfigInvalid, load

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
NOT_RUNNING: Final = 3

_CONFIG: Final = Path("config/gateway.toml")
# In quotes, because only type checkers know it as generic.
Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 -- has no public name


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a command asks of the gateway, and how its answer is shown. `when_lost`: what to do without an answer."""

    path: str
    shown: Callable[[Mapping[str, Any]], str]
    body: Mapping[str, Any] | None = None
    when_lost: str = ""

    @property
    def method(self) -> str:
        """Questions without a body change nothing."""
        return "GET" if self.body is None else "POST"


def add_command(
    subparsers: Subcommands, name: str, question: Callable[[argparse.Namespace], Question], text: str
) -> argparse.ArgumentParser:
    """Add a command to a command line; `args.run(args)` carries it out and returns its exit code."""
    parser = subparsers.add_parser(name, help=text, description=text)
    parser.set_defaults(run=_run, question=question)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--socket", type=Path, metavar="PATH", help="the gateway's admin socket")
    where.add_argument(
        "--config", type=Path, default=_CONFIG, metavar="FILE", help=f"configuration that names it ({_CONFIG})"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    return parser


def add_reason(parser: argparse.ArgumentParser) -> None:
    """Add the reason that every change needs."""
    parser.add_argument("--reason", type=_reason, required=True, help="why, for the admin log (3 to 500 characters)")


def _reason(text: str) -> str:
    refused = reason_refused(text)
    if refused is not None:
        raise argparse.ArgumentTypeError(refused)
    return text


def _run(args: argparse.Namespace) -> int:
    question: Question = args.question(args)
    try:
        socket = args.socket or load(args.config).admin.socket
        reply = asyncio.run(ask(socket, question.method, question.path, question.body))
    except ConfigInvalid as error:
        return _fail(USAGE, f"the admin socket stands in the configuration, which cannot be used: {error}")
    except NoAccess as error:
        return _fail(REFUSED, str(error))
    except NotRunning as error:
        return _fail(NOT_RUNNING, str(error))
    except AnswerLost as error:
        return _fail(NOT_RUNNING, f"{error}{question.when_lost}")
    if reply.refused:
        if args.json:
            _tell(json.dumps(reply.body, indent=2))
        return _fail(REFUSED, tables.problem(reply.body))
    _tell(json.dumps(reply.body, indent=2) if args.json else question.shown(reply.body))
    return DONE


def _tell(text: str) -> None:
    print(text)  # noqa: T201 -- the answer of a command


def _fail(code: int, text: str) -> int:
    print(f"gateway: {text}", file=sys.stderr)  # noqa: T201 -- the answer of a command
    return code
