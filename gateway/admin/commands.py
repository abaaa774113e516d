"""
`gateway ops …` and `gateway status`: clients of the running gateway's admin socket.

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
from uuid import UUID

from gateway.admin import tables
from gateway.admin.client import AnswerLost, NoAccess, NotRunning, ask
from gateway.admin.decisions import Decision
from gateway.admin.routes import reason_refused
from gateway.config import ConfigInvalid, load

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
NOT_RUNNING: Final = 3

_CONFIG: Final = Path("config/gateway.toml")
# In quotes, because only type checkers know it as generic.
_Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 -- has no public name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What a command asks of the gateway, and how its answer is shown. `when_lost`: what to do without an answer."""

    path: str
    shown: Callable[[Mapping[str, Any]], str]
    body: Mapping[str, Any] | None = None
    when_lost: str = ""

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"


def add_commands(subparsers: _Subcommands) -> None:
    """Add `ops` and `status` to a command line; `args.run(args)` carries the parsed command out."""
    ops = subparsers.add_parser("ops", help="look after messages and deliveries")
    each = ops.add_subparsers(required=True, metavar="COMMAND")
    _add(each, "doubts", _doubts, "list the deliveries that wait for a person's decision")
    _add(each, "late", _late, "list the deliveries past their deadline")
    show = _add(each, "show", _show, "show what became of a message")
    show.add_argument("message_id", type=_id, metavar="MESSAGE", help="id of the message")
    _add_decide(each)
    _add(subparsers, "status", _status, "show what runs, since when, and how much is to be done")


def run(args: argparse.Namespace) -> int:
    """Carry out a command that `add_commands` defined, and return its exit code."""
    question: _Question = args.question(args)
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


# ── The command line ──


def _add(
    subparsers: _Subcommands, name: str, question: Callable[[argparse.Namespace], _Question], text: str
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run, question=question)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--socket", type=Path, metavar="PATH", help="the gateway's admin socket")
    where.add_argument(
        "--config", type=Path, default=_CONFIG, metavar="FILE", help=f"configuration that names it ({_CONFIG})"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    return parser


def _add_decide(subparsers: _Subcommands) -> None:
    parser = _add(subparsers, "decide", _decide, "say what became of a delivery that is in doubt")
    parser.epilog = (
        "accepted: the provider has it. not-accepted: the provider surely does not have it; it is sent again now. "
        "give-up: the provider surely does not have it and is not to get it; the next channel takes over where the "
        "fallback rules name refusal, else the message is undeliverable."
    )
    parser.add_argument("delivery_id", type=_id, metavar="DELIVERY", help="id of the delivery")
    parser.add_argument("decision", choices=[str(each) for each in Decision], help="see below")
    parser.add_argument("--reason", type=_reason, required=True, help="why, for the admin log (3 to 500 characters)")
    parser.add_argument(
        "--provider-reference", metavar="ID", help="with accepted: the provider's own id of it, if known"
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would happen")


def _id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError("not an id such as 0190163d-8694-739b-aea5-966c26f8ad90") from None


def _reason(text: str) -> str:
    refused = reason_refused(text)
    if refused is not None:
        raise argparse.ArgumentTypeError(refused)
    return text


# ── The questions ──


def _doubts(_args: argparse.Namespace) -> _Question:
    return _Question(path="/ops/doubts", shown=tables.doubts)


def _late(_args: argparse.Namespace) -> _Question:
    return _Question(path="/ops/late", shown=tables.late)


def _show(args: argparse.Namespace) -> _Question:
    return _Question(path=f"/ops/show/{args.message_id}", shown=tables.message)


def _status(_args: argparse.Namespace) -> _Question:
    return _Question(path="/status", shown=tables.status)


def _decide(args: argparse.Namespace) -> _Question:
    body = {
        "deliveryId": args.delivery_id,
        "decision": args.decision,
        "reason": args.reason,
        "dryRun": args.dry_run,
    }
    if args.provider_reference is not None:
        body["providerReference"] = args.provider_reference
    lost = "; the decision may have been carried out: look with `gateway ops doubts` before deciding again"
    return _Question(path="/ops/decide", body=body, shown=tables.decided, when_lost=lost)


# ── Telling ──


def _tell(text: str) -> None:
    print(text)  # noqa: T201 -- the answer of a command


def _fail(code: int, text: str) -> int:
    print(f"gateway: {text}", file=sys.stderr)  # noqa: T201 -- the answer of a command
    return code
