"""The command line of `gateway client …`: its options, and what a letter is made of them."""

import argparse
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias
from uuid import UUID

from gateway.client.letter import Letter, new_reference
from gateway.crypto.dialects import Dialect
from gateway.domain.ids import InvalidIdentifier, holds_ssin, parse_reference, parse_slug
from gateway.domain.message import Channel, Cover, Lane, PrintOptions, PrintProduct, Priority, Recipient

__all__ = [
    "EXIT_CODES",
    "Subcommands",
    "add_batch",
    "add_cancel",
    "add_dossier",
    "add_events",
    "add_send",
    "add_status",
    "add_verify_receipt",
    "add_whoami",
    "common_letter",
    "letter_from",
]

EXIT_CODES: Final = (
    "Exit codes: 0 done; 1 refused, or not delivered; 2 wrong use; 3 not reached: give the same command again."
)
# In quotes, because only type checkers know it as generic.
Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no other name

_SENDER: Final = Path("sender.toml")
_SOURCE: Final = "- asks, or reads what is piped; or a file that says it"
_NUMBER: Final = re.compile(r"[0-9](?:[\s./-]?[0-9]){8,}")


def _add(subparsers: Subcommands, name: str, text: str) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=text, description=text, epilog=EXIT_CODES)
    parser.add_argument(
        "--sender", type=Path, default=_SENDER, metavar="FILE", help=f"who sends, and to which gateway ({_SENDER})"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    return parser


def add_send(subparsers: Subcommands) -> argparse.ArgumentParser:
    """Add the command that hands a letter over."""
    parser = _add(subparsers, "send", "hand a letter over, and keep trying until the gateway has it")
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
    standard = PrintOptions()
    parser.add_argument("--product", choices=[*PrintProduct], default=standard.product, help="of the post, for print")
    parser.add_argument("--priority", choices=[*Priority], default=standard.priority, help="of the post, for print")
    parser.add_argument("--cover", choices=[*Cover], default=standard.cover, help="cover page, for print")
    parser.add_argument("--simplex", action="store_true", help="print on one side")
    parser.add_argument("--colour", action="store_true", help="print in colour")
    parser.add_argument(
        "--dialect", type=Dialect, choices=[*Dialect], help="of the message, instead of the one in the sender's file"
    )
    parser.add_argument("--receipt", type=Path, metavar="FILE", help="write the gateway's receipt there")
    parser.add_argument("--follow", action="store_true", help="stay until it is delivered, or ends otherwise")
    return parser


def add_batch(subparsers: Subcommands) -> argparse.ArgumentParser:
    """Add the command that hands many letters over."""
    parser = _add(subparsers, "batch", "hand many letters over, up to 500 under one signature")
    parser.add_argument(
        "list", type=Path, metavar="LIST.CSV", help="a letter a row: reference, files, number, name, street, …"
    )
    parser.add_argument("--category", type=_checked(parse_slug), default="", help="of those that name none")
    parser.add_argument("--purpose", type=_text, default="", help="of those that name none")
    parser.add_argument("--subject", type=_text, default="", help="of those that name none")
    parser.add_argument("--lang", choices=("nl", "fr", "de", "en"), default="nl", help="of those that name none (nl)")
    parser.add_argument(
        "--channel", action="append", choices=[*Channel], default=[], help="of those that name none; in order"
    )
    parser.add_argument("--lane", choices=[*Lane], help="bulk (when absent) never delays single letters")
    parser.add_argument(
        "--dialect", type=Dialect, choices=[*Dialect], help="of the batch, instead of the one in the sender's file"
    )
    parser.add_argument("--receipts", type=Path, metavar="FOLDER", help="write each receipt there, by its reference")
    return parser


def add_status(subparsers: Subcommands) -> argparse.ArgumentParser:
    """Add the command that shows where a message stands."""
    parser = _add(subparsers, "status", "show where a message stands")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("message_id", nargs="?", type=_id, metavar="MESSAGE_ID", help="the gateway's id of it")
    which.add_argument("--reference", type=_checked(parse_reference), help="or your own reference")
    return parser


def add_cancel(subparsers: Subcommands) -> argparse.ArgumentParser:
    """Add the command that stops a message."""
    parser = _add(subparsers, "cancel", "stop a message, until a provider is called for it")
    parser.add_argument("message_id", type=_id, metavar="MESSAGE_ID", help="the gateway's id of it")
    return parser


def add_events(subparsers: Subcommands) -> argparse.ArgumentParser:
    """Add the command that shows a part of the feed of events."""
    parser = _add(subparsers, "events", "show what happened to your messages, from where you were before")
    parser.add_argument("--after", metavar="CURSOR", help="where you were before; absent: the oldest that is kept")
    parser.add_argument("--limit", type=int, choices=range(1, 501), default=100, metavar="N", help="1 to 500 (100)")
    return parser


def add_whoami(subparsers: Subcommands) -> argparse.ArgumentParser:
    """Add the command that shows what the gateway sees of the sender."""
    return _add(subparsers, "whoami", "show what the gateway sees of you: certificate, rights, quota, clock")


def add_dossier(subparsers: Subcommands) -> argparse.ArgumentParser:
    """Add the command that registers a dossier."""
    parser = _add(subparsers, "dossier", "state that you handle a file about a person or company")
    parser.add_argument("--about", type=_source, required=True, metavar="-|FILE", help=f"the number: {_SOURCE}")
    parser.add_argument("--category", type=_checked(parse_slug), required=True, help="such as building-permit")
    parser.add_argument(
        "--from", dest="from_on", type=_day, required=True, metavar="DATE", help="first day, 2026-11-22"
    )
    parser.add_argument("--until", dest="until_on", type=_day, metavar="DATE", help="last day")
    return parser


def add_verify_receipt(subparsers: Subcommands) -> argparse.ArgumentParser:
    """Add the command that verifies a receipt."""
    parser = _add(subparsers, "verify-receipt", "verify a receipt, without any connection")
    parser.add_argument(
        "receipt", type=Path, metavar="FILE", help="a receipt (JWS or XML), or the JSON in which it came"
    )
    parser.add_argument(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="the gateway's receipt certificate, instead of the sender's file",
    )
    parser.add_argument(
        "--document", action="append", type=Path, default=[], metavar="FILE", help="each file of the letter, in order"
    )
    return parser


def letter_from(args: argparse.Namespace, recipient: Recipient) -> Letter:
    """Return the letter that the options of `send` describe."""
    return Letter(
        recipient=recipient,
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


def common_letter(args: argparse.Namespace, recipient: Recipient, reference: str, files: Sequence[Path]) -> Letter:
    """Return a letter of `batch`, as far as the options describe it."""
    return Letter(
        recipient=recipient,
        category=args.category,
        purpose=args.purpose,
        subject=args.subject,
        documents=files,
        language=args.lang,
        reference=reference,
        channels=[Channel(name) for name in args.channel],
        lane=None if args.lane is None else Lane(args.lane),
    )


def _print_options(args: argparse.Namespace) -> PrintOptions | None:
    asked = PrintOptions(
        product=PrintProduct(args.product),
        duplex=not args.simplex,
        colour=args.colour,
        priority=Priority(args.priority),
        cover=Cover(args.cover),
    )
    return None if asked == PrintOptions() else asked


def _source(text: str) -> str:
    if holds_ssin(text) or _NUMBER.fullmatch(text):
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
