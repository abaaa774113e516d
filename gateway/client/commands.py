"""
`gateway client …`: the sender's side, for people and for scripts.

Exit codes: 0 done; 1 refused, by the gateway or because what was asked does not hold (with --follow also: the letter
was not delivered); 2 wrong use, or a file that cannot be used; 3 the gateway was not reached, or cannot take it now:
the same command with the same reference may be given again, and nothing is ever sent twice.
"""

import argparse
import asyncio
import re
import sys
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

from gateway.client.answers import MessageState
from gateway.client.api import GatewayClient, Sent
from gateway.client.letter import Letter, describe, new_reference
from gateway.client.problems import ClientError, GatewayNotTrusted, LetterInvalid, NotReached, Problem, ReceiptWrong
from gateway.client.proof import require_documents, verified_receipt
from gateway.client.recipient import RecipientUnreadable, ask_recipient, read_recipient
from gateway.client.screen import Screen, progress, receipt_object, receipt_text, sent_text, state_text
from gateway.client.sender import SenderFileInvalid, load_receipt_certificates, load_sender
from gateway.crypto.jws import strict_json
from gateway.domain.ids import InvalidIdentifier, holds_ssin, parse_reference, parse_slug
from gateway.domain.message import Channel, Cover, Lane, PrintOptions, PrintProduct, Priority, Recipient
from gateway.domain.status import MessageStatus

__all__ = ["NOT_REACHED", "DONE", "REFUSED", "USAGE", "add_commands", "run"]

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
NOT_REACHED: Final = 3
_INTERRUPTED: Final = 130

_INPUT_LIMIT: Final = 65_536
_RECEIPT_LIMIT_BYTES: Final = 1_048_576
_CODES: Final = "Exit codes: 0 done; 1 refused, or not delivered; 2 wrong use; 3 not reached: give the same command again."
_LONG_NUMBER: Final = re.compile(r"[0-9](?:[\s./-]?[0-9]){8,}")
# In quotes, because only type checkers know it as generic.
_Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
_Command = Callable[[argparse.Namespace, Screen, type[GatewayClient]], int]
_T = TypeVar("_T")


def add_commands(subparsers: _Subcommands) -> None:
    """Add `client` to a command line; `args.run(args)` carries the parsed command out."""
    text = "send letters and follow them: the sender's side"
    client = subparsers.add_parser("client", help=text, description=text, epilog=_CODES)
    each = client.add_subparsers(required=True, metavar="COMMAND")
    _add_send(each)
    _add_status(each)
    _add_dossier(each)
    _add_verify_receipt(each)


def run(args: argparse.Namespace, *, open_client: Callable[..., GatewayClient] = GatewayClient) -> int:
    """Carry out a command that `add_commands` defined, and return its exit code; `open_client` makes the client."""
    screen = Screen(sys.stdout, sys.stderr, as_json=args.json)
    command: _Command = args.client_command
    try:
        return command(args, screen, open_client)
    except ClientError as error:
        screen.failure(error)
        return exit_code(error)
    except KeyboardInterrupt:
        return _INTERRUPTED


def exit_code(error: ClientError) -> int:
    """Return the exit code that tells a script what to do about an error."""
    match error:
        case Problem() if error.is_temporary:
            return NOT_REACHED
        case NotReached() | GatewayNotTrusted():
            return NOT_REACHED
        case LetterInvalid() | SenderFileInvalid() | RecipientUnreadable() | FileUnusable():
            return USAGE
        case _:
            return REFUSED


# ── The command line ──


def _add(subparsers: _Subcommands, name: str, command: _Command, text: str) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=text, description=text, epilog=_CODES)
    parser.set_defaults(run=run, client_command=command)
    parser.add_argument(
        "--sender", type=Path, default=_SENDER, metavar="FILE", help=f"who sends, and to which gateway ({_SENDER})"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    return parser


def _add_send(subparsers: _Subcommands) -> None:
    parser = _add(subparsers, "send", _send, "hand a letter over, and keep trying until the gateway has it")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="the letter, then its annexes")
    parser.add_argument("--to", type=_source, required=True, metavar="-|FILE", help=f"the recipient: {_SOURCE}")
    parser.add_argument("--category", type=_checked(parse_slug), required=True, help="such as tax-assessment")
    parser.add_argument("--purpose", type=_text, required=True, help="why these data are processed; is logged")
    parser.add_argument("--subject", type=_text, required=True, help="what the recipient reads first")
    parser.add_argument("--lang", choices=("nl", "fr", "de", "en"), default="nl", help="of the letter (nl)")
    parser.add_argument(
        "--channel", action="append", choices=[*Channel], default=[], help="may be given again, in order of preference"
    )
    parser.add_argument(
        "--reference", type=_checked(parse_reference), help="your own; the same one is never delivered twice"
    )
    parser.add_argument("--attention", type=_text, metavar="NAME", help="for whose attention, in a company")
    parser.add_argument("--billing-reference", type=_text, metavar="TEXT", help="for the invoice")
    parser.add_argument("--retention-days", type=int, metavar="N", help="of the authentic copy")
    parser.add_argument("--not-before", type=_moment, metavar="TIME", help="deliver from then, 2026-11-30T08:00:00Z")
    parser.add_argument("--before", type=_moment, metavar="TIME", help="deliver until then or not at all")
    parser.add_argument("--lane", choices=[*Lane], help="bulk never delays single letters")
    for option, choices in _PRINT_OPTIONS.items():
        parser.add_argument(f"--{option}", choices=[*choices], help="for print")
    parser.add_argument("--simplex", action="store_true", help="print on one side")
    parser.add_argument("--colour", action="store_true", help="print in colour")
    parser.add_argument("--receipt", type=Path, metavar="FILE", help="write the gateway's receipt there")
    parser.add_argument("--follow", action="store_true", help="stay until it is delivered, or ends otherwise")


def _add_status(subparsers: _Subcommands) -> None:
    parser = _add(subparsers, "status", _status, "show where a message stands")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("message_id", nargs="?", type=_id, metavar="MESSAGE_ID", help="the gateway's id of it")
    which.add_argument("--reference", type=_checked(parse_reference), help="or your own reference")


def _add_dossier(subparsers: _Subcommands) -> None:
    parser = _add(subparsers, "dossier", _dossier, "state that you handle a file about a person or company")
    parser.add_argument("--about", type=_source, required=True, metavar="-|FILE", help=f"the number: {_SOURCE}")
    parser.add_argument("--category", type=_checked(parse_slug), required=True, help="such as building-permit")
    parser.add_argument("--from", dest="from_on", type=_day, required=True, metavar="DATE", help="first day, 2026-11-22")
    parser.add_argument("--until", dest="until_on", type=_day, metavar="DATE", help="last day")


def _add_verify_receipt(subparsers: _Subcommands) -> None:
    parser = _add(subparsers, "verify-receipt", _verify_receipt, "verify a receipt, without any connection")
    parser.add_argument(
        "receipt", type=Path, metavar="FILE", help="a receipt (JWS or XML), or the JSON in which it came"
    )
    parser.add_argument(
        "--certificate", type=Path, metavar="FILE", help="the gateway's receipt certificate, instead of the sender's file"
    )
    parser.add_argument(
        "--document", action="append", type=Path, default=[], metavar="FILE", help="each file of the letter, in order"
    )


def _source(text: str) -> str:
    if holds_ssin(text) or _LONG_NUMBER.fullmatch(text):
        raise argparse.ArgumentTypeError("a personal number is never an argument; give - and type it, or pipe it")
    return text


def _text(text: str) -> str:
    if holds_ssin(text):
        raise argparse.ArgumentTypeError("must not hold a personal number")
    return text


def _checked(parse: Callable[[str], str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            return parse(text)
        except InvalidIdentifier as exc:
            raise argparse.ArgumentTypeError(str(exc)) from None

    return check


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError("not an id such as 0190163d-8694-739b-aea5-966c26f8ad90") from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("not a date such as 2026-11-22") from None


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise argparse.ArgumentTypeError("not a time with its zone, such as 2026-11-30T08:00:00Z")
    return at.astimezone(UTC)


# ── The commands ──


def _send(args: argparse.Namespace, screen: Screen, open_client: _OpenClient) -> int:
    sender = load_sender(args.sender)
    letter = Letter(
        recipient=_recipient(args.to, with_address=True),
        category=args.category,
        purpose=args.purpose,
        subject=args.subject,
        documents=args.files,
        language=args.lang,
        reference=args.reference or new_reference(),
        attention_of=args.attention,
        channels=[Channel(name) for name in args.channel],
        print_options=_print_options(args),
        retention=None if args.retention_days is None else timedelta(days=args.retention_days),
        deliver_not_before=args.not_before,
        deliver_before=args.before,
        lane=None if args.lane is None else Lane(args.lane),
        billing_reference=args.billing_reference,
    )

    async def work() -> int:
        async with open_client(sender, on_retry=screen.retrying) as gateway:
            sent = await _handed_over(gateway, letter, screen)
            if args.receipt is not None:
                await asyncio.to_thread(_write, args.receipt, sent.receipt_jws)
            value = {**sent.state.view, "repeated": sent.repeated, "tries": sent.tries}
            screen.show(sent_text(sent))
            if not args.follow:
                screen.tell(value)
                return DONE
            state = await _followed(gateway, sent, screen)
            screen.tell({**value, **state.view})
            return DONE if state.status == MessageStatus.DELIVERED else REFUSED

    return _run(work, screen)


async def _handed_over(gateway: GatewayClient, letter: Letter, screen: Screen) -> Sent:
    again = f"It cannot arrive twice: give the same command again with --reference {letter.reference}"
    try:
        return await gateway.send(letter)
    except ClientError as error:
        advice = again if exit_code(error) == NOT_REACHED else ""
        raise _Told(screen, error, advice=advice, reference=letter.reference) from error
    except asyncio.CancelledError:
        screen.note(f"Interrupted. {again}")
        raise


async def _followed(gateway: GatewayClient, sent: Sent, screen: Screen) -> MessageState:
    later = f"The letter is handed over; look again with: gateway client status {sent.message_id}"
    state = sent.state
    screen.show("")
    try:
        async with aclosing(gateway.follow(sent.message_id)) as states:
            async for state in states:
                screen.show(progress(state, datetime.now(UTC)))
    except ClientError as error:
        raise _Told(screen, error, advice=later, reference=sent.reference) from error
    except asyncio.CancelledError:
        screen.note(later)
        raise
    return state
