"""
`gateway client …`: the sender's side, for people and for scripts.

Exit codes: 0 done; 1 refused, by the gateway or because what was asked does not hold (with --follow also: the letter
was not delivered); 2 wrong use, or a file that cannot be used; 3 the gateway was not reached, or cannot take it now:
the same command with the same reference may be given again, and nothing is ever sent twice. Of `doctor`: 0
nothing failed; 1 something has to be mended; 2 so has the sender's file, or one that it names; 3 nothing else is wrong
than that the gateway cannot be reached or take anything now.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

from cryptography import x509

from gateway.client import arguments
from gateway.client.account_screen import account_text, events_text
from gateway.client.answers import MessageState
from gateway.client.api import GatewayClient, Sent
from gateway.client.batch import ItemSent
from gateway.client.batch_list import read_list
from gateway.client.doctor import examine
from gateway.client.doctor_screen import Sheet, report_object
from gateway.client.findings import OWN_FILES, Finding, Outcome
from gateway.client.letter import Document, Letter, describe
from gateway.client.problems import (
    ClientError,
    GatewayNotTrusted,
    LetterInvalid,
    NotReached,
    Problem,
    ReceiptWrong,
    UnexpectedAnswer,
)
from gateway.client.proof import require_documents, verified_receipt
from gateway.client.recipient import RecipientUnreadable, ask_recipient, read_recipient
from gateway.client.screen import (
    Screen,
    batch_object,
    batch_text,
    progress,
    receipt_object,
    receipt_text,
    sent_text,
    state_text,
)
from gateway.client.sender import SenderFileInvalid, load_receipt_certificates, load_sender
from gateway.crypto.jws import strict_json
from gateway.domain.batch import MAX_ITEMS
from gateway.domain.message import Recipient
from gateway.domain.status import MessageStatus
from gateway.errors import Kind

__all__ = ["DONE", "NOT_REACHED", "REFUSED", "USAGE", "add_commands", "exit_code", "run"]

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
NOT_REACHED: Final = 3
_INTERRUPTED: Final = 130

_INPUT_LIMIT: Final = 65_536
_RECEIPT_LIMIT_BYTES: Final = 1_048_576

_OpenClient = Callable[..., GatewayClient]
_Command = Callable[[argparse.Namespace, Screen, _OpenClient], int]
_T = TypeVar("_T")


@dataclass(eq=False)
class FileUnusable(ClientError):
    """A file that a command names cannot be read or written, or is not what it should be."""

    detail: str

    def __str__(self) -> str:
        """Return which file, and why."""
        return self.detail


@dataclass(eq=False)
class _Advised(ClientError):
    """An error and what to do about it; `reference` is the letter's."""

    error: ClientError
    advice: str
    reference: str | None = None


def add_commands(subparsers: arguments.Subcommands) -> None:
    """Add `client` to a command line; `args.run(args)` carries the parsed command out."""
    text = "send letters and follow them: the sender's side"
    client = subparsers.add_parser("client", help=text, description=text, epilog=arguments.EXIT_CODES)
    each = client.add_subparsers(required=True, metavar="COMMAND")
    arguments.add_send(each).set_defaults(run=run, client_command=_send)
    arguments.add_batch(each).set_defaults(run=run, client_command=_batch)
    arguments.add_status(each).set_defaults(run=run, client_command=_status)
    arguments.add_cancel(each).set_defaults(run=run, client_command=_cancel)
    arguments.add_events(each).set_defaults(run=run, client_command=_events)
    arguments.add_whoami(each).set_defaults(run=run, client_command=_whoami)
    arguments.add_dossier(each).set_defaults(run=run, client_command=_dossier)
    arguments.add_verify_receipt(each).set_defaults(run=run, client_command=_verify_receipt)
    _add_doctor(each)


def run(args: argparse.Namespace, *, open_client: Callable[..., GatewayClient] = GatewayClient) -> int:
    """Carry out a command that `add_commands` defined, and return its exit code; `open_client` makes the client."""
    screen = Screen(sys.stdout, sys.stderr, as_json=args.json)
    command: _Command = args.client_command
    try:
        return command(args, screen, open_client)
    except _Advised as advised:
        screen.failure(advised.error, advice=advised.advice, reference=advised.reference)
        return exit_code(advised.error)
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


# ── send ──


def _send(args: argparse.Namespace, screen: Screen, open_client: _OpenClient) -> int:
    sender = load_sender(args.sender, args.dialect)
    letter = arguments.letter_from(args, _recipient(args.to, with_address=True))

    async def work() -> int:
        async with open_client(sender, on_retry=screen.retrying) as gateway:
            sent = await _handed_over(gateway, letter, screen)
            if args.receipt is not None:
                await asyncio.to_thread(_write, args.receipt, sent.receipt_jws)
            value = {**sent.state.view, "repeated": sent.repeated, "tries": sent.tries}
            screen.show(sent_text(sent), headline=True)
            if not args.follow:
                screen.tell(value)
                return DONE
            state = await _followed(gateway, sent, screen)
            screen.tell({**value, **state.view})
            return DONE if state.status == MessageStatus.DELIVERED else REFUSED

    return asyncio.run(work())


async def _handed_over(gateway: GatewayClient, letter: Letter, screen: Screen) -> Sent:
    again = f"It cannot arrive twice: give the same command again, with --reference {letter.reference}"
    try:
        return await gateway.send(letter)
    except (ReceiptWrong, UnexpectedAnswer) as error:
        advice = "Do not count the letter as sent; show this to the gateway's operator"
        raise _Advised(error, advice, letter.reference) from error
    except ClientError as error:
        raise _Advised(error, again if exit_code(error) == NOT_REACHED else "", letter.reference) from error
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
        raise _Advised(error, later, sent.reference) from error
    except asyncio.CancelledError:
        screen.note(later)
        raise
    return state


# ── batch ──


def _batch(args: argparse.Namespace, screen: Screen, open_client: _OpenClient) -> int:
    sender = load_sender(args.sender, args.dialect)
    try:
        letters = read_list(args.list, partial(arguments.common_letter, args))
    except OSError as exc:
        raise FileUnusable(f"{args.list} cannot be read: {exc.strerror or type(exc).__name__}") from exc

    async def work() -> int:
        sent: list[ItemSent] = []
        async with open_client(sender, on_retry=screen.retrying) as gateway:
            for start in range(0, len(letters), MAX_ITEMS):
                sent += await _handed_over_together(gateway, letters[start : start + MAX_ITEMS], args, screen)
        screen.show(batch_text(sent), headline=True)
        screen.tell(batch_object(sent))
        if any(item.problem is not None and not item.problem.is_temporary for item in sent):
            return REFUSED
        return DONE if all(item.is_with_gateway for item in sent) else NOT_REACHED

    return asyncio.run(work())


async def _handed_over_together(
    gateway: GatewayClient, letters: list[Letter], args: argparse.Namespace, screen: Screen
) -> tuple[ItemSent, ...]:
    again = "No letter can arrive twice: give the same command again, with the same list"
    try:
        batch = await gateway.send_batch(letters)
    except ClientError as error:
        raise _Advised(error, again if exit_code(error) == NOT_REACHED else "") from error
    except asyncio.CancelledError:
        screen.note(f"Interrupted. {again}")
        raise
    if args.receipts is not None:
        await asyncio.to_thread(_write_receipts, args.receipts, batch.items)
    return batch.items


def _write_receipts(folder: Path, items: Sequence[ItemSent]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise FileUnusable(f"{folder} cannot be made: {exc.strerror or type(exc).__name__}") from exc
    for item in items:
        if item.receipt_jws is not None:
            _write(folder / f"{item.reference}.jws", item.receipt_jws)


# ── status, cancel, events, whoami, dossier, verify-receipt ──


def _status(args: argparse.Namespace, screen: Screen, open_client: _OpenClient) -> int:
    sender = load_sender(args.sender)

    async def work() -> MessageState:
        async with open_client(sender, on_retry=screen.retrying) as gateway:
            if args.message_id is not None:
                return await gateway.status(args.message_id)
            found = await gateway.find(args.reference)
            if found is None:
                raise Problem(
                    code=Kind.NOT_FOUND, detail="no message of this sender and profile has this reference", status=404
                )
            return found

    state = asyncio.run(work())
    screen.show(state_text(state), headline=True)
    screen.tell(state.view)
    return DONE


def _cancel(args: argparse.Namespace, screen: Screen, open_client: _OpenClient) -> int:
    state = _asked(args, screen, open_client, lambda gateway: gateway.cancel(args.message_id))
    screen.show(state_text(state), headline=True)
    screen.tell(state.view)
    return DONE


def _events(args: argparse.Namespace, screen: Screen, open_client: _OpenClient) -> int:
    page = _asked(args, screen, open_client, lambda gateway: gateway.events(args.after, limit=args.limit))
    screen.show(events_text(page))
    screen.tell(page.view)
    return DONE


def _whoami(args: argparse.Namespace, screen: Screen, open_client: _OpenClient) -> int:
    account = _asked(args, screen, open_client, lambda gateway: gateway.whoami())
    screen.show(account_text(account), headline=True)
    screen.tell(account.view)
    return DONE


def _asked(
    args: argparse.Namespace, screen: Screen, open_client: _OpenClient, ask: Callable[[GatewayClient], Awaitable[_T]]
) -> _T:
    sender = load_sender(args.sender)

    async def work() -> _T:
        async with open_client(sender, on_retry=screen.retrying) as gateway:
            return await ask(gateway)

    return asyncio.run(work())


def _dossier(args: argparse.Namespace, screen: Screen, open_client: _OpenClient) -> int:
    sender = load_sender(args.sender)
    about = _recipient(args.about, with_address=False)

    async def work() -> UUID:
        async with open_client(sender, on_retry=screen.retrying) as gateway:
            try:
                return await gateway.register_dossier(
                    about, category=args.category, from_on=args.from_on, until_on=args.until_on
                )
            except NotReached as error:
                advice = "It may be registered; registering it again makes two, to be ended both" if error.sent else ""
                raise _Advised(error, advice) from error

    dossier_id = asyncio.run(work())
    until = f" until {args.until_on}" if args.until_on is not None else ""
    screen.show(f"Registered: dossier {dossier_id}\n  {args.category}, from {args.from_on}{until}", headline=True)
    screen.tell({"dossierId": str(dossier_id)})
    return DONE


def _verify_receipt(args: argparse.Namespace, screen: Screen, _open_client: _OpenClient) -> int:
    if args.certificate is not None:
        trusted, gateway = _receipt_certificates(args.certificate), None
    else:
        sender = load_sender(args.sender)
        trusted, gateway = sender.receipt_certificates, sender.gateway
    receipt = verified_receipt(_read_receipt(args.receipt), trusted)
    if gateway not in (None, receipt.gateway):
        raise ReceiptWrong("it is of another gateway than the sender's file names")
    if args.document:
        require_documents(receipt, describe([Document(content=file) for file in args.document]))
    screen.show(receipt_text(receipt), headline=True)
    if args.document:
        screen.show("The documents are those that the gateway took.")
    screen.tell(receipt_object(receipt))
    return DONE


# ── doctor ──


def _add_doctor(subparsers: arguments.Subcommands) -> None:
    text = "look at everything between your files and a letter that the gateway takes, and say what to mend"
    codes = "Exit codes: 0 nothing failed; 1 something is to be mended; 2 your files are; 3 the gateway is not reached."
    doctor = subparsers.add_parser("doctor", help=text, description=f"{text}; nothing is sent", epilog=codes)
    doctor.add_argument(
        "--sender", type=Path, default=Path("sender.toml"), metavar="FILE", help="who sends (sender.toml)"
    )
    doctor.add_argument("--json", action="store_true", help="answer in JSON")
    doctor.set_defaults(run=run, client_command=_doctor)


def _doctor(args: argparse.Namespace, screen: Screen, _open_client: _OpenClient) -> int:
    sheet = Sheet.on(sys.stdout)

    async def work() -> list[Finding]:
        findings: list[Finding] = []
        async with aclosing(examine(args.sender)) as examination:
            async for finding in examination:
                findings.append(finding)
                screen.show(sheet.finding(finding))
        return findings

    findings = asyncio.run(work())
    screen.show("")
    screen.show(sheet.summary(findings), headline=True)
    screen.tell(report_object(args.sender, findings, datetime.now(UTC)))
    return _exit_code_of(findings)


def _exit_code_of(findings: list[Finding]) -> int:
    wrong = [finding for finding in findings if finding.outcome is Outcome.FAILED]
    if not wrong:
        return DONE
    if any(finding.check in OWN_FILES for finding in wrong):
        return USAGE
    return NOT_REACHED if all(finding.unreachable for finding in wrong) else REFUSED


# ── Files and prompts ──


def _recipient(source: str, *, with_address: bool) -> Recipient:
    if source != "-":
        return read_recipient(_read(Path(source), _INPUT_LIMIT).decode("utf-8", "replace"))
    if sys.stdin.isatty():
        return ask_recipient(_ask, with_address=with_address)
    return read_recipient(sys.stdin.read(_INPUT_LIMIT))


def _ask(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline()


def _receipt_certificates(file: Path) -> tuple[x509.Certificate, ...]:
    try:
        return load_receipt_certificates(file)
    except OSError as exc:
        raise FileUnusable(f"{file} cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise FileUnusable(f"{file} {exc}") from exc


def _read_receipt(file: Path) -> str | bytes:
    """Return a receipt as XML (bytes) or JWS (text), out of the JSON answer it came in if need be."""
    content = _read(file, _RECEIPT_LIMIT_BYTES).strip()
    if content.startswith((b"<", b"\xef\xbb\xbf<")):
        return content
    if content.startswith(b"{"):
        try:
            return str(strict_json(content)["receipt"])
        except (ValueError, KeyError) as exc:
            raise FileUnusable(f"{file} is JSON without a receipt in it") from exc
    return content.decode("ascii", "replace")


def _read(file: Path, limit_bytes: int) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(limit_bytes + 1)
    except OSError as exc:
        raise FileUnusable(f"{file} cannot be read: {exc.strerror or type(exc).__name__}") from exc
    if len(content) > limit_bytes:
        raise FileUnusable(f"{file} is larger than {limit_bytes} bytes")
    return content


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text + "\n", "ascii")
    except OSError as exc:
        raise FileUnusable(f"{file} cannot be written: {exc.strerror or type(exc).__name__}") from exc
