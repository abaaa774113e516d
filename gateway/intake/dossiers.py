"""Requests about dossiers: register, end, look up. Bodies name persons; answers and URLs never do."""

from datetime import date
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from gateway.crypto.vault import BlindIndex, DekRow
from gateway.domain.dossier import in_force
from gateway.domain.ids import InvalidIdentifier, parse_enterprise_number, parse_ssin, sender_uuid
from gateway.domain.message import Recipient
from gateway.errors import FieldError, Kind, Refusal
from gateway.intake.caller import Caller
from gateway.intake.handlers import IntakeDeps, read_json
from gateway.intake.views import when
from gateway.records import personal
from gateway.records.logs import Subject
from gateway.stores.model import DossierRecord, Log

MAX_DOSSIERS: Final = 1_000
_EARLIEST: Final = date(1900, 1, 1)  # nobody's dossier is older, and the first days of the calendar have no UTC


async def register(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`POST /api/v1/dossiers`: register up to 1,000 dossiers, all or none; answers their ids in order."""
    items = _items(await read_json(request), "dossiers")
    categories = _categories(caller)
    errors: list[FieldError] = []
    wanted = [_read_dossier(item, f"/dossiers/{number}", categories, deps, errors) for number, item in enumerate(items)]
    if errors:
        raise Refusal(Kind.INVALID_MESSAGE, "some dossiers are wrong; none was registered", errors=errors)
    index = await deps.vault.blind_index("recipient")
    records, deks = await _seal([found for found in wanted if found is not None], caller, index, deps)
    await deps.ledger.add_dossiers(records, deks)
    await _log(deps, caller, "dossiers-registered", len(records))
    return web.json_response({"dossiers": [{"dossierId": str(record.dossier_id)} for record in records]})


async def end(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`POST /api/v1/dossiers/end`: end up to 1,000 dossiers now; one that ended before stays as it was."""
    items = _items(await read_json(request), "dossiers")
    ids = [_dossier_id(item, f"/dossiers/{number}") for number, item in enumerate(items)]
    now, visible = deps.clock(), _visible(caller)
    answers: list[dict[str, Any]] = []
    for dossier_id in ids:
        earlier = await deps.ledger.end_dossier(caller.number, dossier_id, now, categories=visible)
        ended_at = None if earlier is None else earlier.ended_at or now
        outcome = "not-found" if earlier is None else "ended"
        answers.append({"dossierId": str(dossier_id), "outcome": outcome, "endedAt": when(ended_at)})
    await _log(deps, caller, "dossiers-ended", len(ids))
    return web.json_response({"dossiers": answers})


async def search(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`POST /api/v1/dossiers/search`: the sender's dossiers about up to 1,000 recipients, answered in order."""
    items = _items(await read_json(request), "recipients")
    errors: list[FieldError] = []
    recipients = [_read_recipient(item, f"/recipients/{number}", deps, errors) for number, item in enumerate(items)]
    if errors:
        raise Refusal(Kind.INVALID_MESSAGE, "some recipients are wrong", errors=errors)
    index, now, visible = await deps.vault.blind_index("recipient"), deps.clock(), _visible(caller)
    answers = []
    for recipient in recipients:
        candidates = personal.recipient_candidates(index, recipient)
        found = await deps.ledger.find_dossiers(caller.number, None, candidates)
        shown = [dossier for dossier in found if visible is None or dossier.category in visible]
        answers.append({"dossiers": [_view(dossier, in_force(dossier, now)) for dossier in shown]})
    await _log(deps, caller, "dossiers-searched", len(recipients))
    return web.json_response({"results": answers})


def _items(body: Any, name: str) -> list[Any]:
    items = body.get(name) if isinstance(body, dict) else None
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_DOSSIERS or set(body) != {name}:
        raise Refusal(Kind.BAD_REQUEST, f"the body must be an object with only {name}, a list of 1 to {MAX_DOSSIERS}")
    return items


def _categories(caller: Caller) -> set[str]:
    return {
        category
        for profile in caller.sender.profiles.values()
        if caller.profiles is None or profile.id in caller.profiles
        for category in profile.authorisations
    }


def _visible(caller: Caller) -> set[str] | None:
    """Return the categories whose dossiers a certificate may see and end; None: all, also of rights that ended."""
    return None if caller.profiles is None else _categories(caller)


def _read_dossier(
    item: Any, at: str, categories: set[str], deps: IntakeDeps, errors: list[FieldError]
) -> tuple[Recipient, str, date, date | None] | None:
    if not isinstance(item, dict):
        errors.append(FieldError(pointer=at, detail="must be an object"))
        return None
    before = len(errors)
    unknown = set(item) - {"recipient", "category", "from", "until"}
    errors += [FieldError(pointer=f"{at}/{name}", detail="no such field") for name in sorted(unknown)]
    recipient = _read_recipient(item.get("recipient"), f"{at}/recipient", deps, errors)
    category = item.get("category")
    if not isinstance(category, str) or category not in categories:
        errors.append(FieldError(pointer=f"{at}/category", detail="must be a category of one of your profiles"))
    from_on = _read_date(item.get("from"), f"{at}/from", errors)
    until_on = _read_date(item["until"], f"{at}/until", errors) if "until" in item else None
    if from_on is not None and until_on is not None and until_on < from_on:
        errors.append(FieldError(pointer=f"{at}/until", detail="must not be before from"))
    if len(errors) > before or from_on is None:
        return None
    return recipient, str(category), from_on, until_on


def _read_recipient(raw: Any, at: str, deps: IntakeDeps, errors: list[FieldError]) -> Recipient:
    if isinstance(raw, dict) and len(raw) == 1:
        try:
            match raw:
                case {"ssin": str(text)}:
                    return Recipient(ssin=parse_ssin(text, allow_test=deps.accept.settings.allow_test_ssin))
                case {"enterpriseNumber": str(text)}:
                    return Recipient(enterprise_number=parse_enterprise_number(text))
                case _:
                    pass
        except InvalidIdentifier as error:
            errors.append(FieldError(pointer=at, detail=str(error)))
            return Recipient()
    errors.append(FieldError(pointer=at, detail="must be an object with either ssin or enterpriseNumber"))
    return Recipient()


def _read_date(raw: Any, at: str, errors: list[FieldError]) -> date | None:
    try:
        found = date.fromisoformat(raw)
    except (TypeError, ValueError):
        errors.append(FieldError(pointer=at, detail="must be a date such as 2026-11-22"))
        return None
    if found < _EARLIEST:
        errors.append(FieldError(pointer=at, detail=f"must not be before {_EARLIEST.isoformat()}"))
        return None
    return found


def _dossier_id(item: Any, at: str) -> UUID:
    text = item.get("dossierId") if isinstance(item, dict) else None
    try:
        return UUID(text)
    except (TypeError, ValueError, AttributeError) as error:
        raise Refusal(
            Kind.BAD_REQUEST, "some dossierIds are wrong", errors=[FieldError(pointer=at, detail="needs a dossierId")]
        ) from error


async def _seal(
    wanted: list[tuple[Recipient, str, date, date | None]], caller: Caller, index: BlindIndex, deps: IntakeDeps
) -> tuple[list[DossierRecord], list[DekRow]]:
    records: list[DossierRecord] = []
    deks: list[DekRow] = []
    now = deps.clock()
    for recipient, category, from_on, until_on in wanted:
        dossier_id = deps.accept.ids()
        dek = await deps.vault.new_dek(sender_uuid(caller.number), "meta")
        about = personal.recipient_index(index, recipient)
        number = recipient.ssin or recipient.enterprise_number
        if about is None or number is None:
            raise Refusal(Kind.INVALID_MESSAGE, "a dossier needs a recipient with a number")
        sealed = dek.seal_field(table="dossier", column="sealed_recipient", row=dossier_id.bytes, value=number.encode())
        deks.append(dek.row)
        records.append(
            DossierRecord(
                dossier_id=dossier_id,
                sender=caller.number,
                category=category,
                recipient_index=about,
                recipient_index_version=index.version,
                from_on=from_on,
                until_on=until_on,
                registered_at=now,
                dek_id=dek.row.dek_id,
                sealed_recipient=sealed,
            )
        )
    return records, deks


async def _log(deps: IntakeDeps, caller: Caller, event: str, count: int) -> None:
    entry = deps.logbook.entry(
        Log.PRIVACY,
        event,
        who={"party": caller.peer.party, "sender": caller.number},
        what={"count": count},
        result="done",
        subject=Subject(sender=caller.number),
    )
    await deps.ledger.append([entry])


def _view(dossier: DossierRecord, live: bool) -> dict[str, Any]:  # noqa: FBT001 -- one private call
    return {
        "dossierId": str(dossier.dossier_id),
        "category": dossier.category,
        "from": dossier.from_on.isoformat(),
        "until": dossier.until_on.isoformat() if dossier.until_on is not None else None,
        "registeredAt": when(dossier.registered_at),
        "endedAt": when(dossier.ended_at),
        "inForce": live,
    }
