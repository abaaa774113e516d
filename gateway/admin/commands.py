"""`gateway ops …`, `gateway senders …`, `gateway reload` and `gateway status`: clients of the admin socket."""

import argparse
from uuid import UUID

from gateway.admin import sender_commands, tables
from gateway.admin.asking import Question, Subcommands, add_command, add_reason
from gateway.admin.decisions import Decision


def add_commands(subparsers: Subcommands) -> None:
    """Add the commands of the staff to a command line; `args.run(args)` carries the parsed command out."""
    ops = subparsers.add_parser("ops", help="look after messages and deliveries")
    each = ops.add_subparsers(required=True, metavar="COMMAND")
    add_command(each, "doubts", _doubts, "list the deliveries that wait for a person's decision")
    add_command(each, "late", _late, "list what is past its deadline, and who owes the next step")
    show = add_command(each, "show", _show, "show what became of a message")
    show.add_argument("message_id", type=_id, metavar="MESSAGE", help="id of the message")
    _add_decide(each)
    add_command(subparsers, "status", _status, "show what runs, since when, and how much is to be done")
    sender_commands.add_commands(subparsers)


# ── The command line ──


def _add_decide(subparsers: Subcommands) -> None:
    parser = add_command(subparsers, "decide", _decide, "say what became of a delivery that is in doubt")
    parser.epilog = (
        "accepted: the provider has it; it is watched on. not-accepted: the provider surely does not have it; it is "
        "sent again now. give-up: the provider surely does not have it, or will not deliver it; the next channel takes "
        "over where the fallback rules name refusal, else the message is undeliverable. delivered, lost: what the post "
        "did with a registered letter. read, unread: whether an e-Box message was opened; after unread, the next "
        "channel takes over. `gateway ops doubts` shows which of them can be said of a delivery."
    )
    parser.add_argument("delivery_id", type=_id, metavar="DELIVERY", help="id of the delivery")
    parser.add_argument("decision", choices=[str(each) for each in Decision], help="see below")
    add_reason(parser)
    parser.add_argument(
        "--provider-reference", metavar="ID", help="with accepted: the provider's own id of it, if known"
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would happen")


def _id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError("not an id such as 0190163d-8694-739b-aea5-966c26f8ad90") from None


# ── The questions ──


def _doubts(_args: argparse.Namespace) -> Question:
    return Question(path="/ops/doubts", shown=tables.doubts)


def _late(_args: argparse.Namespace) -> Question:
    return Question(path="/ops/late", shown=tables.late)


def _show(args: argparse.Namespace) -> Question:
    return Question(path=f"/ops/show/{args.message_id}", shown=tables.message)


def _status(_args: argparse.Namespace) -> Question:
    return Question(path="/status", shown=tables.status)


def _decide(args: argparse.Namespace) -> Question:
    body = {
        "deliveryId": args.delivery_id,
        "decision": args.decision,
        "reason": args.reason,
        "dryRun": args.dry_run,
    }
    if args.provider_reference is not None:
        body["providerReference"] = args.provider_reference
    lost = "; the decision may have been carried out: look with `gateway ops doubts` before deciding again"
    return Question(path="/ops/decide", body=body, shown=tables.decided, when_lost=lost)
