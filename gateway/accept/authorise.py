"""Whether this may be sent, and how; nothing of the documents has been read."""

from datetime import datetime

from gateway.accept.stages import AcceptDeps, AcceptSettings, Order, SignedMessage
from gateway.crypto.dialects import pointer_in
from gateway.crypto.fields import Path
from gateway.domain.authority import MAY_SEND, Facts
from gateway.domain.dossier import in_force
from gateway.domain.message import Channel
from gateway.domain.registration import Authorisation, RecipientRule
from gateway.domain.routing import plan_route
from gateway.errors import FieldError, Kind, Refusal
from gateway.records import personal


async def authorise(signed: SignedMessage, deps: AcceptDeps) -> Order:
    """
    Decide whether this may be sent, and how; nothing of the documents has been read.

    Raises:
        Refusal: created-at-out-of-window, invalid-message, message-too-large, category-not-authorised,
            channel-not-contracted, recipient-not-authorised, channel-cannot-carry.
    """
    message, now = signed.message, deps.clock()
    _require_created_in_window(signed.signed_at, now, deps.settings)
    _require_within_limits(signed, deps.settings)
    if message.category not in deps.registration().categories:
        raise _invalid(signed, ("category",), f"category {message.category} is not registered at this gateway")
    facts = Facts(
        party=signed.peer.party,
        certificate_profiles=signed.peer.profiles,
        sender=signed.sender,
        suspended=False,
        profile_id=signed.profile.id,
        message=message,
        signer_profiles=None,  # judged when the signature was
        live_dossier=await _has_live_dossier(signed, deps),
    )
    denial = MAY_SEND.check(facts)
    if denial is not None:
        raise Refusal(Kind(denial.rule), denial.detail)
    authorisation = signed.profile.authorisations[message.category]
    _require_consistent(signed, authorisation, now)
    route = plan_route(message, authorisation, deps.settings.capabilities, deps.settings.providers)
    if not route.channels:
        raise Refusal(
            Kind.CHANNEL_CANNOT_CARRY,
            "no asked channel can carry this message; see errors for each",
            errors=[_fault(signed, ("channels", str(skip.channel)), skip.why) for skip in route.skipped],
        )
    return Order(
        signed=signed,
        authorisation=authorisation,
        route=route,
        retention=message.retention if message.retention is not None else authorisation.retention,
    )


def _require_created_in_window(signed_at: datetime, now: datetime, settings: AcceptSettings) -> None:
    skew = signed_at - now
    if -settings.created_at_past <= skew <= settings.created_at_future:
        return
    raise Refusal(
        Kind.CREATED_AT_OUT_OF_WINDOW,
        f"CreatedAt is {skew.total_seconds():+.0f} s from this gateway's clock; it may be from "
        f"-{settings.created_at_past.total_seconds():.0f} s to +{settings.created_at_future.total_seconds():.0f} s. "
        "Set the sender's clock, or sign the message anew",
        extra={"skewSeconds": round(skew.total_seconds())},
    )


def _require_within_limits(signed: SignedMessage, settings: AcceptSettings) -> None:
    message = signed.message
    if len(message.documents) > settings.max_documents:
        raise _invalid(signed, ("documents",), f"at most {settings.max_documents} documents may be sent together")
    total_bytes = sum(document.size_bytes for document in message.documents)
    for number, document in enumerate(message.documents, start=1):
        if document.size_bytes > settings.max_total_bytes:
            raise Refusal(
                Kind.DOCUMENT_TOO_LARGE,
                f"document {number} has {document.size_bytes} bytes; at most {settings.max_total_bytes} are taken",
            )
    if total_bytes > settings.max_total_bytes:
        raise Refusal(
            Kind.MESSAGE_TOO_LARGE,
            f"the documents have {total_bytes} bytes together; at most {settings.max_total_bytes} are taken",
        )


def _require_consistent(signed: SignedMessage, authorisation: Authorisation, now: datetime) -> None:
    message = signed.message
    errors: list[FieldError] = []
    if message.retention is not None and message.retention > authorisation.retention:
        days = authorisation.retention.days
        errors.append(_fault(signed, ("retention",), f"at most P{days}D is authorised"))
    if message.deliver_before is not None and message.deliver_before <= now:
        errors.append(_fault(signed, ("deliverBefore",), "this moment has passed"))
    if message.recipient.address is None and Channel.PRINT in (message.channels or authorisation.channels):
        errors.append(
            _fault(
                signed,
                ("recipient", "postalAddress"),
                "print may be used, so a PostalAddress is required; add it, or name Channels without print",
            )
        )
    if errors:
        raise Refusal(Kind.INVALID_MESSAGE, "some fields are wrong; see errors for each", errors=errors)


async def _has_live_dossier(signed: SignedMessage, deps: AcceptDeps) -> bool:
    message = signed.message
    authorisation = signed.profile.authorisations.get(message.category)
    if authorisation is None or authorisation.recipients is not RecipientRule.DOSSIER:
        return False
    index = await deps.vault.blind_index("recipient")
    candidates = personal.recipient_candidates(index, message.recipient)
    dossiers = await deps.ledger.find_dossiers(signed.sender.enterprise_number, message.category, candidates)
    now = deps.clock()
    return any(in_force(dossier, now) for dossier in dossiers)


def _invalid(signed: SignedMessage, path: Path, detail: str) -> Refusal:
    return Refusal(
        Kind.INVALID_MESSAGE,
        "some fields are wrong; see errors for each",
        errors=[_fault(signed, path, detail)],
    )


def _fault(signed: SignedMessage, path: Path, detail: str) -> FieldError:
    return FieldError(pointer=pointer_in(signed.dialect, path), detail=detail)
