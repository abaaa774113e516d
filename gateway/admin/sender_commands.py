"""`gateway senders …` and `gateway reload`: what holds about senders, and putting in force what the files say."""

import argparse
from typing import Final

from gateway.admin import tables
from gateway.admin.asking import Question, Subcommands, add_command, add_reason
from gateway.domain.ids import InvalidIdentifier, parse_enterprise_number

_LOST: Final = "; it may have been carried out: look with `gateway senders list` and `gateway senders diff`"


def add_commands(subparsers: Subcommands) -> None:
    """Add `senders` and `reload` to a command line; `args.run(args)` carries the parsed command out."""
    senders = subparsers.add_parser("senders", help="look after registrations and suspensions")
    each = senders.add_subparsers(required=True, metavar="COMMAND")
    add_command(each, "list", _list, "list the registered senders, and who is suspended")
    add_command(each, "diff", _diff, "show what putting the registration files in force would change")
    apply = add_command(each, "apply", _apply, "put the registration files in force, for every gateway on this ledger")
    apply.add_argument("--digest", metavar="HEX", help="only if they are still those whose digest `diff` showed")
    add_reason(apply)
    for name, question, text in (
        ("suspend", _suspend, "refuse every request of a sender from now on, and close its connections"),
        ("resume", _resume, "end the suspension of a sender"),
    ):
        parser = add_command(each, name, question, text)
        parser.add_argument("enterprise_number", type=_number, metavar="NUMBER", help="its enterprise number")
        add_reason(parser)
    reload = add_command(
        subparsers,
        "reload",
        _reload,
        "put in force what the files say: certificates, client CAs, revocation lists, senders, staff, security matrix",
    )
    reload.add_argument("--dry-run", action="store_true", help="only show what would change")
    add_reason(reload)


def _number(text: str) -> str:
    try:
        return parse_enterprise_number(text)
    except InvalidIdentifier as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _list(_args: argparse.Namespace) -> Question:
    return Question(path="/senders", shown=tables.senders)


def _diff(_args: argparse.Namespace) -> Question:
    return Question(path="/senders/diff", shown=tables.compared)


def _apply(args: argparse.Namespace) -> Question:
    body = {"reason": args.reason} | ({"digest": args.digest} if args.digest is not None else {})
    return Question(path="/senders/apply", body=body, shown=tables.applied, when_lost=_LOST)


def _suspend(args: argparse.Namespace) -> Question:
    return Question(path="/senders/suspend", body=_about_sender(args), shown=tables.suspended, when_lost=_LOST)


def _resume(args: argparse.Namespace) -> Question:
    return Question(path="/senders/resume", body=_about_sender(args), shown=tables.suspended, when_lost=_LOST)


def _about_sender(args: argparse.Namespace) -> dict[str, str]:
    return {"enterpriseNumber": args.enterprise_number, "reason": args.reason}


def _reload(args: argparse.Namespace) -> Question:
    body = {"reason": args.reason, "dryRun": args.dry_run}
    return Question(path="/reload", body=body, shown=tables.applied, when_lost=_LOST)
