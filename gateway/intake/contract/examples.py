"""
Examples of what is asked and answered. Nobody in them is real: the personal number is a test number, which belongs to
nobody, the organisations are those of the example registrations. Tokens and certificates are shortened.
"""

from typing import Any, Final

MESSAGE_ID: Final = "01a2014e-92d4-7f37-a359-d66bd764a1fe"
TOKEN: Final = "eyJ0eXAiOiJkZ3ctcmVjZWlwdCtqd3MifQ.eyJzdWIiOiIwMWEyMDE0ZSJ9.MEUCIQDx"  # noqa: S105 - a shortened JWS, no secret
PEM: Final = "-----BEGIN CERTIFICATE-----\nMIIBpzCCAU2gAwIBAgIU\n-----END CERTIFICATE-----\n"

_DELIVERY_ID: Final = "01a2014e-92d9-7c11-8a55-2b9f1f7a9c3e"
_ACCEPTED_AT: Final = "2026-11-22T10:00:00.000Z"
_POSTED_AT: Final = "2026-11-22T15:30:12.480Z"
_KEPT_UNTIL: Final = "2027-11-22T15:30:12.480Z"
_SHA256: Final = "aa1c38ee9119785fce8d015e6d3c3167d0563b9b631decfdb37a5610065598cb"
_LEAF: Final = "3b1f0e0c9d8a4f52b6a7c0d1e2f30415263748596a7b8c9d0e1f2a3b4c5d6e7f"
_BASE64: Final = "MIIBpzCCAU2gAwIBAgIU"
_PRINT: Final = "print"
_PROVIDER: Final = "house-a"
_PROFILE: Final = "burgerzaken"
_REFERENCE: Final = "2026-000123"
_SENDER: Final = "0406798006"

SUMMARY: Final[dict[str, Any]] = {
    "messageId": MESSAGE_ID,
    "reference": _REFERENCE,
    "profile": _PROFILE,
    "status": "delivered",
    "final": False,
    "acceptedAt": _ACCEPTED_AT,
    "deliveries": [
        {
            "deliveryId": _DELIVERY_ID,
            "number": 1,
            "channel": _PRINT,
            "provider": _PROVIDER,
            "status": "dispatched",
            "reason": None,
            "barcode": None,
            "readSeenAt": None,
        }
    ],
    "copy": {"state": "kept", "until": _KEPT_UNTIL, "retrievals": 0},
}
_STEP: Final[dict[str, Any]] = {"number": 1, "channel": _PRINT}
MESSAGE: Final[dict[str, Any]] = {
    **SUMMARY,
    "documents": [{"part": "upfile1", "sha256": _SHA256, "size": 346}],
    "skippedChannels": [{"channel": "ebox-citizen", "why": "it does not carry the language en"}],
    "timeline": [
        {"at": _ACCEPTED_AT, "event": "accepted", "status": "accepted"},
        {
            "at": "2026-11-22T10:00:01.052Z",
            "event": "accepted",
            **_STEP,
            "status": "accepted",
            "messageStatus": "in-delivery",
        },
        {"at": _POSTED_AT, "event": "dispatched", **_STEP, "status": "dispatched", "messageStatus": "delivered"},
    ],
    "receipt": TOKEN,
}
NEW_MESSAGE: Final[dict[str, Any]] = {
    **MESSAGE,
    "status": "accepted",
    "deliveries": [{**SUMMARY["deliveries"][0], "status": "waiting"}],
    "copy": {"state": "in-delivery", "until": None, "retrievals": 0},
    "timeline": MESSAGE["timeline"][:1],
}
CANCELLED_MESSAGE: Final[dict[str, Any]] = {
    **NEW_MESSAGE,
    "status": "cancelled",
    "final": True,
    "deliveries": [{**SUMMARY["deliveries"][0], "status": "cancelled"}],
    "copy": {"state": "awaiting-erasure", "until": "2026-12-22T10:02:00.000Z", "retrievals": 0},
    "timeline": [
        *NEW_MESSAGE["timeline"],
        {
            "at": "2026-11-22T10:02:00.000Z",
            "event": "cancelled",
            **_STEP,
            "status": "cancelled",
            "messageStatus": "cancelled",
        },
    ],
}
MESSAGES: Final = {"messages": [SUMMARY], "nextCursor": "MToxMDA"}
STATUS_REQUEST: Final = {"messages": [{"messageId": MESSAGE_ID}]}
STATUS_ANSWER: Final = {"messages": [SUMMARY], "unknown": []}
EVENTS: Final = {
    "events": [
        {
            "number": 7,
            "at": _POSTED_AT,
            "event": "dispatched",
            "messageId": MESSAGE_ID,
            "reference": _REFERENCE,
            "profile": _PROFILE,
            "status": "delivered",
            "deliveryId": _DELIVERY_ID,
            "deliveryNumber": 1,
            "deliveryStatus": "dispatched",
            "channel": _PRINT,
        }
    ],
    "nextCursor": "ZjE6MWY4YTAwYzJkNGU2NGI3NzlhMzUyZjBlYjFjNmQ4NzQ6M2QzYTYxZTk6Nw",
    "more": False,
    "epoch": "1f8a00c2d4e64b779a352f0eb1c6d874",
}
EVIDENCE: Final = {
    "messageId": MESSAGE_ID,
    "qualification": "non-qualified",
    "evidence": [
        {
            "n": 1,
            "event": "accepted",
            "at": _ACCEPTED_AT,
            "etsiEvent": "http://uri.etsi.org/19522/Event/SubmissionAcceptance",
            "leafSha256": _LEAF,
            "href": f"/api/v1/messages/{MESSAGE_ID}/evidence/1",
        }
    ],
}
POSTAL_STATUS: Final = {
    "messageId": MESSAGE_ID,
    "deliveryId": _DELIVERY_ID,
    "number": 1,
    "barcode": "010541288900000000000021",
    "status": "in_transit",
    "statusAt": _POSTED_AT,
    "isEar": True,
}

_DOSSIER_ID: Final = "01a2014f-0a3b-7e02-9d41-7c6b5a493827"
_PERSON: Final = {"ssin": "90610100155"}  # a test number: month 61 belongs to nobody
DOSSIERS: Final = {
    "dossiers": [{"recipient": _PERSON, "category": "building-permit", "from": "2026-11-22", "until": "2027-05-31"}]
}
DOSSIERS_REGISTERED: Final = {"dossiers": [{"dossierId": _DOSSIER_ID}]}
DOSSIERS_ENDED: Final = {"dossiers": [{"dossierId": _DOSSIER_ID, "outcome": "ended", "endedAt": _POSTED_AT}]}
DOSSIER_SEARCH: Final = {"recipients": [_PERSON, {"enterpriseNumber": "0566988259"}]}
DOSSIER_RESULTS: Final = {
    "results": [
        {
            "dossiers": [
                {
                    "dossierId": _DOSSIER_ID,
                    "category": "building-permit",
                    "from": "2026-11-22",
                    "until": "2027-05-31",
                    "registeredAt": _ACCEPTED_AT,
                    "endedAt": None,
                    "inForce": True,
                }
            ]
        },
        {"dossiers": []},
    ]
}


def whoami(gateway: str) -> dict[str, Any]:
    """Return what `GET /api/v1/whoami` may answer at the gateway of that name."""
    return {
        "gateway": gateway,
        "serverTime": _ACCEPTED_AT,
        "clockSkewSeconds": 0,
        "certificate": {"spkiSha256": _SHA256, "notAfter": "2028-11-22T00:00:00.000Z", "daysLeft": 730},
        "party": _SENDER,
        "sender": {"enterpriseNumber": _SENDER, "ovoCode": None, "name": "Gemeente Voorbeeld"},
        "profiles": [
            {
                "id": _PROFILE,
                "displayName": "Burgerzaken Voorbeeld",
                "holdSeconds": 0,
                "categories": [
                    {
                        "category": "tax-assessment",
                        "channels": ["ebox-citizen", _PRINT],
                        "recipients": "any",
                        "retentionDays": 365,
                    }
                ],
                "quota": {
                    "day": "2026-11-22",
                    "messages": {"limit": 50_000, "used": 123, "left": 49_877},
                    "paper": {"limit": None, "used": 4, "left": None},
                },
            }
        ],
    }


def trust(gateway: str) -> dict[str, Any]:
    """Return what `GET /api/v1/trust` may answer at the gateway of that name."""
    return {
        "gateway": gateway,
        "certificates": [
            {
                "uses": ["receipts", "evidence"],
                "present": True,
                "spkiSha256": _SHA256,
                "notBefore": "2026-01-01T00:00:00.000Z",
                "notAfter": "2029-01-01T00:00:00.000Z",
                "pem": PEM,
                "x5c": [_BASE64],
            }
        ],
        "jwks": {
            "keys": [
                {
                    "kty": "EC",
                    "crv": "P-256",
                    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
                    "use": "sig",
                    "alg": "ES256",
                    "kid": "Fr4eyGDxwF5rXQMpUwzBYbUBhMXPiINV1mDTBvCiF1M",
                    "x5c": [_BASE64],
                }
            ]
        },
    }
