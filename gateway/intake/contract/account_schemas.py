"""The shapes of requests and answers about dossiers, and of what the gateway sees of a caller."""

from collections.abc import Mapping
from typing import Final

from gateway.domain.registration import RecipientRule
from gateway.intake.contract.shapes import (
    Schema,
    array,
    described,
    members,
    nullable,
    number,
    one_of,
    ref,
    text,
    truth,
)
from gateway.intake.dossiers import MAX_DOSSIERS

_DAY: Final = text("A date.", format="date", pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
_LAST_DAY: Final = "The last day, included."

_DOSSIERS: Final[Mapping[str, Schema]] = {
    "PersonOrCompany": {
        "oneOf": [
            members("A person.", {"ssin": ref("Ssin")}),
            members("A company.", {"enterpriseNumber": ref("EnterpriseNumber")}),
        ],
        "description": "Who a dossier is about.",
    },
    "DossierRegistration": members(
        "Dossiers to register, all or none.",
        {
            "dossiers": array(
                members(
                    "One dossier.",
                    {
                        "recipient": ref("PersonOrCompany"),
                        "category": described(ref("Slug"), "One of the categories of your profiles."),
                        "from": described(_DAY, "The first day, not before 1900-01-01."),
                    },
                    {"until": described(_DAY, f"{_LAST_DAY} Absent: until it is ended.")},
                ),
                f"At most {MAX_DOSSIERS:,}.",
                minItems=1,
                maxItems=MAX_DOSSIERS,
            )
        },
    ),
    "DossiersRegistered": members(
        "The new dossiers.",
        {
            "dossiers": array(
                members("One dossier.", {"dossierId": ref("DossierId")}),
                "In the order of the request.",
                minItems=1,
                maxItems=MAX_DOSSIERS,
            )
        },
    ),
    "DossierEndRequest": members(
        "Dossiers to end now.",
        {
            "dossiers": array(
                members("One dossier.", {"dossierId": ref("DossierId")}, closed=False),
                f"At most {MAX_DOSSIERS:,}.",
                minItems=1,
                maxItems=MAX_DOSSIERS,
            )
        },
    ),
    "DossiersEnded": members(
        "What became of each.",
        {
            "dossiers": array(
                members(
                    "One dossier.",
                    {
                        "dossierId": ref("DossierId"),
                        "outcome": one_of(["ended", "not-found"], "Not found: you have no dossier of this number."),
                        "endedAt": nullable(ref("Instant"), "Its end, now or earlier. Null: not found."),
                    },
                ),
                "In the order of the request.",
                minItems=1,
                maxItems=MAX_DOSSIERS,
            )
        },
    ),
    "DossierSearch": members(
        "About whom.",
        {"recipients": array(ref("PersonOrCompany"), f"At most {MAX_DOSSIERS:,}.", minItems=1, maxItems=MAX_DOSSIERS)},
    ),
    "DossierResults": members(
        "The dossiers about each.",
        {
            "results": array(
                members("About one recipient.", {"dossiers": array(ref("Dossier"), "May be empty.")}),
                "In the order of the request.",
                minItems=1,
                maxItems=MAX_DOSSIERS,
            )
        },
    ),
    "Dossier": members(
        "A registered dossier; whom it is about is not said again.",
        {
            "dossierId": ref("DossierId"),
            "category": described(ref("Slug"), "For letters of this category."),
            "from": described(_DAY, "The first day."),
            "until": nullable(_DAY, f"{_LAST_DAY} Null: until it is ended."),
            "registeredAt": described(ref("Instant"), "When the gateway learnt of it; it reaches no further back."),
            "endedAt": nullable(ref("Instant"), "When it was ended. Null: it was not."),
            "inForce": truth("Letters of its category may be sent to its recipient now."),
        },
    ),
}

_QUOTA: Final = members(
    "Of one day.",
    {
        "limit": nullable(number(), "Null: no limit."),
        "used": number("By now."),
        "left": nullable(number(), "Null: no limit."),
    },
)

_ACCOUNT: Final[Mapping[str, Schema]] = {
    "WhoAmI": members(
        "What the gateway sees of you.",
        {
            "gateway": text("This gateway's name, which messages sign."),
            "serverTime": described(ref("Instant"), "The gateway's clock."),
            "clockSkewSeconds": nullable(
                number(minimum=None),
                "How far the request's `Date` is ahead of the gateway's clock. Null: no `Date` came.",
            ),
            "certificate": members(
                "The client certificate.",
                {
                    "spkiSha256": described(ref("Sha256"), "Of its public key."),
                    "notAfter": described(ref("Instant"), "Its end."),
                    "daysLeft": number("Until it expires."),
                },
            ),
            "party": described(ref("EnterpriseNumber"), "Whom the certificate names: a sender, or its processor."),
            "sender": members(
                "For whom you act.",
                {
                    "enterpriseNumber": ref("EnterpriseNumber"),
                    "ovoCode": nullable(text(pattern="^OVO[0-9]{6}$"), "Null: it has none of its own."),
                    "name": text("As registered."),
                },
            ),
            "profiles": array(ref("Profile"), "Those that the certificate may use."),
        },
    ),
    "Profile": members(
        "One display name of the sender, with its own rights.",
        {
            "id": described(ref("Slug"), "Its name in messages."),
            "displayName": text("What recipients see."),
            "holdSeconds": number("How long a message waits before it is handed over, to be cancelled."),
            "categories": array(ref("CategoryRights"), "What it may send."),
            "quota": members(
                "What it may send today.",
                {
                    "day": described(_DAY, "Today in Europe/Brussels."),
                    "messages": described(_QUOTA, "All messages."),
                    "paper": described(_QUOTA, "Those on paper."),
                },
            ),
        },
    ),
    "CategoryRights": members(
        "The right to send one category.",
        {
            "category": described(ref("Slug"), "The class of personal data."),
            "channels": array(ref("Channel"), "In the order that holds when a message names none.", minItems=1),
            "recipients": one_of(RecipientRule, "To anybody, or only where a dossier is in force."),
            "retentionDays": number("The longest term of the authentic copy.", minimum=1),
        },
    ),
}

ACCOUNT_SCHEMAS: Final[Mapping[str, Schema]] = {**_DOSSIERS, **_ACCOUNT}
