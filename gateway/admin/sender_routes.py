"""Commands about registrations, suspensions, and everything else that changes while the gateway runs."""

import re
from collections.abc import Awaitable, Mapping
from typing import Any, Final

from aiohttp import web

from gateway.admin.interface import AdminDeps, Answer, Route, bad_request, read_json, wrong_members
from gateway.admin.journal import Actor, command_entry, occasion_of
from gateway.admin.problems import AdminRefusal, Code
from gateway.config import ConfigInvalid
from gateway.crypto.values import format_instant
from gateway.domain.ids import EnterpriseNumber, InvalidIdentifier, parse_enterprise_number
from gateway.domain.registration import Sender
from gateway.domain.staff import Part, Verb
from gateway.errors import FieldError
from gateway.records.logs import Subject
from gateway.records.registrations import Overtaken, Reloaded, StillNeeded
from gateway.stores.model import Suspension

APPLY: Final = "senders-apply"
SUSPEND: Final = "senders-suspend"
RESUME: Final = "senders-resume"
RELOAD: Final = "reload"
SHORTEST_DIGEST: Final = 8
_DIGEST: Final = re.compile(rf"[0-9a-f]{{{SHORTEST_DIGEST},64}}")


async def list_senders(_request: web.Request, _actor: Actor, deps: AdminDeps) -> Answer:
    """`GET /senders`: who is registered, and who is suspended."""
    registration = deps.registration()
    suspended = {suspension.sender: suspension for suspension in await deps.deliver.ledger.suspensions()}
    numbers = sorted(registration.senders.keys() | suspended.keys())
    rows = [_row(number, registration.senders.get(number), suspended.get(number)) for number in numbers]
    return Answer(body={"registrationVersion": registration.version, "senders": rows})


async def show_changes(_request: web.Request, _actor: Actor, deps: AdminDeps) -> Answer:
    """`GET /senders/diff`: what putting the registration files in force would change."""
    done = await _translated(deps.changes.look(), {})
    return Answer(body=_told(done), what={"digest": done.digest})


async def apply_changes(request: web.Request, actor: Actor, deps: AdminDeps) -> Answer:
    """`POST /senders/apply`: put the registration files in force."""
    body = await read_json(request)
    wrong = wrong_members(body, frozenset({"reason"}), frozenset({"digest"}))
    digest = body.get("digest")
    if digest is not None and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        wrong["digest"] = f"must be {SHORTEST_DIGEST} to 64 lower-case hexadecimal digits, as the comparison shows them"
    if wrong:
        raise bad_request(wrong)
    occasion = occasion_of(APPLY, actor, body["reason"])
    asked = {"reason": occasion.reason}
    done = await _translated(deps.changes.apply(occasion, digest=digest), asked)
    return Answer(body=_told(done), what=asked, in_log=done.is_change)


async def reload(request: web.Request, actor: Actor, deps: AdminDeps) -> Answer:
    """`POST /reload`: put everything in force that can change without a restart."""
    body = await read_json(request)
    wrong = wrong_members(body, frozenset({"reason"}), frozenset({"dryRun"}))
    dry_run = body.get("dryRun", False)
    if not isinstance(dry_run, bool):
        wrong["dryRun"] = "must be true or false"
    if wrong:
        raise bad_request(wrong)
    occasion = occasion_of(RELOAD, actor, body["reason"])
    asked: dict[str, str | int] = {"reason": occasion.reason, "dryRun": int(dry_run)}
    done = await _translated(deps.changes.reload(occasion, dry_run=dry_run), asked)
    return Answer(body=_told(done) | {"dryRun": dry_run}, what=asked, in_log=done.is_change and not dry_run)


async def suspend_sender(request: web.Request, actor: Actor, deps: AdminDeps) -> Answer:
    """`POST /senders/suspend`: refuse every request of a sender from now on, and close its connections."""
    number, reason = await _sender_and_reason(request)
    sender = deps.registration().senders.get(number)
    asked = {"reason": reason, "sender": number}
    if sender is None:
        raise AdminRefusal(Code.NOT_FOUND, "no sender with this enterprise number is registered", what=asked)
    suspension = Suspension(sender=number, at=deps.deliver.clock(), reason=reason)
    entry = command_entry(
        deps.deliver.logbook, SUSPEND, actor, result="suspended", what=asked, subject=Subject(sender=number)
    )
    if not await deps.deliver.ledger.suspend(suspension, [entry]):
        raise AdminRefusal(Code.ALREADY_SO, "this sender is suspended already", what=asked)
    closed = deps.close_connections(number)
    body = {"enterpriseNumber": number, "name": sender.name, "suspended": True, "connectionsClosed": closed}
    return Answer(body=body, in_log=True)


async def resume_sender(request: web.Request, actor: Actor, deps: AdminDeps) -> Answer:
    """`POST /senders/resume`: end a suspension; also of a sender whose registration has ended meanwhile."""
    number, reason = await _sender_and_reason(request)
    sender = deps.registration().senders.get(number)
    asked = {"reason": reason, "sender": number}
    entry = command_entry(
        deps.deliver.logbook, RESUME, actor, result="resumed", what=asked, subject=Subject(sender=number)
    )
    if not await deps.deliver.ledger.resume(number, [entry]):
        raise AdminRefusal(Code.ALREADY_SO, "this sender is not suspended", what=asked)
    body = {"enterpriseNumber": number, "name": sender.name if sender is not None else None, "suspended": False}
    return Answer(body=body, in_log=True)


ROUTES: Final = (
    Route(
        method="GET", path="/senders", command="senders-list", part=Part.SENDERS, verb=Verb.READ, handler=list_senders
    ),
    Route(
        method="GET",
        path="/senders/diff",
        command="senders-diff",
        part=Part.SENDERS,
        verb=Verb.READ,
        handler=show_changes,
    ),
    Route(
        method="POST",
        path="/senders/apply",
        command=APPLY,
        part=Part.SENDERS,
        verb=Verb.MODIFY,
        handler=apply_changes,
    ),
    Route(
        method="POST",
        path="/senders/suspend",
        command=SUSPEND,
        part=Part.SENDERS,
        verb=Verb.MODIFY,
        handler=suspend_sender,
    ),
    Route(
        method="POST",
        path="/senders/resume",
        command=RESUME,
        part=Part.SENDERS,
        verb=Verb.MODIFY,
        handler=resume_sender,
    ),
    Route(method="POST", path="/reload", command=RELOAD, part=Part.GATEWAY, verb=Verb.MODIFY, handler=reload),
)


async def _sender_and_reason(request: web.Request) -> tuple[EnterpriseNumber, str]:
    body = await read_json(request)
    wrong = wrong_members(body, frozenset({"enterpriseNumber", "reason"}), frozenset())
    written, number = body.get("enterpriseNumber"), EnterpriseNumber("")
    try:
        number = parse_enterprise_number(written if isinstance(written, str) else "")
    except InvalidIdentifier as error:
        wrong.setdefault("enterpriseNumber", str(error))
    if wrong:
        raise bad_request(wrong)
    return number, body["reason"]


async def _translated(work: Awaitable[Reloaded], asked: Mapping[str, str | int]) -> Reloaded:
    """Tell a caller why nothing was put in force."""
    try:
        return await work
    except ConfigInvalid as invalid:
        why = "the files hold mistakes, so nothing was changed; see errors for each"
        raise AdminRefusal(Code.CONFIG_INVALID, why, errors=invalid.errors, what=asked) from invalid
    except StillNeeded as unmet:
        why = "messages under way need what would be taken away, so nothing was changed; see errors for each"
        raise AdminRefusal(Code.STILL_NEEDED, why, errors=_needs(unmet), what=asked) from unmet
    except Overtaken as overtaken:
        raise AdminRefusal(Code.OVERTAKEN, str(overtaken), what=asked) from overtaken


def _needs(unmet: StillNeeded) -> list[FieldError]:
    return [FieldError(pointer=need.what, detail=f"{need.messages} messages under way need it") for need in unmet.needs]


def _told(done: Reloaded) -> dict[str, Any]:
    return {
        "registrationInForce": done.number_before,
        "registrationAfter": done.number_after,
        "digest": done.digest,
        "changes": list(done.changes),
        "needs": [{"what": need.what, "messages": need.messages} for need in done.needs],
    }


def _row(number: EnterpriseNumber, sender: Sender | None, suspension: Suspension | None) -> dict[str, Any]:
    return {
        "enterpriseNumber": number,
        "name": sender.name if sender is not None else None,
        "active": sender is not None and sender.active,
        "profiles": len(sender.profiles) if sender is not None else 0,
        "certificates": len(sender.certificates) if sender is not None else 0,
        "suspendedAt": format_instant(suspension.at) if suspension is not None else None,
        "suspendedBecause": suspension.reason if suspension is not None else None,
    }
