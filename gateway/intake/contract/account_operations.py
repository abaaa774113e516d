"""The operations about dossiers, about who one is to the gateway, and about this contract itself."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from gateway.errors import Kind
from gateway.intake.contract import examples
from gateway.intake.contract.facts import Facts
from gateway.intake.contract.letter_operations import JSON, JSON_BODY_PROBLEMS, XML
from gateway.intake.contract.operation import Answer, Body, Content, Group, Operation, Parameter
from gateway.intake.contract.shapes import ref, text
from gateway.intake.dossiers import MAX_DOSSIERS

_DOSSIERS: Final = "/api/v1/dossiers"
_ABOUT_DOSSIERS: Final = (
    "A dossier is your statement that you are handling a file about this recipient, for a category, from a day until a "
    "day. Where the registration asks for one (`recipients` is `dossier`), letters are sent only while it is in force."
)


def _of_dossiers(
    path: str,
    name: str,
    summary: str,
    description: str,
    *,
    asked: tuple[str, Any],
    told: tuple[str, Any],
    problems: frozenset[Kind] = frozenset(),
) -> Operation:
    return Operation(
        method="POST",
        path=path,
        name=name,
        group=Group.DOSSIERS,
        summary=summary,
        description=description,
        body=Body(
            description=f"At most {MAX_DOSSIERS:,} in one call.",
            content={JSON: Content(schema=ref(asked[0]), example=asked[1])},
        ),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="In the order of the request.",
                content={JSON: Content(schema=ref(told[0]), example=told[1])},
            ),
        ),
        problems=JSON_BODY_PROBLEMS | problems,
    )


DOSSIER_OPERATIONS: Final = (
    _of_dossiers(
        _DOSSIERS,
        "registerDossiers",
        "Register dossiers",
        f"{_ABOUT_DOSSIERS}\n\nAll are registered, or none.",
        asked=("DossierRegistration", examples.DOSSIERS),
        told=("DossiersRegistered", examples.DOSSIERS_REGISTERED),
        problems=frozenset({Kind.INVALID_MESSAGE}),
    ),
    _of_dossiers(
        f"{_DOSSIERS}/end",
        "endDossiers",
        "End dossiers",
        "They end now; one that ended before stays as it was.",
        asked=("DossierEndRequest", examples.DOSSIERS_REGISTERED),
        told=("DossiersEnded", examples.DOSSIERS_ENDED),
    ),
    _of_dossiers(
        f"{_DOSSIERS}/search",
        "searchDossiers",
        "Look dossiers up",
        "Your own dossiers about some recipients, also those that have ended. The privacy log notes each search.",
        asked=("DossierSearch", examples.DOSSIER_SEARCH),
        told=("DossierResults", examples.DOSSIER_RESULTS),
        problems=frozenset({Kind.INVALID_MESSAGE}),
    ),
)


def account_operations(facts: Facts) -> Sequence[Operation]:
    """Return the operations that tell a caller and the gateway of each other."""
    return (
        Operation(
            method="GET",
            path="/api/v1/whoami",
            name="whoAmI",
            group=Group.ACCOUNT,
            summary="What the gateway sees of you",
            description="The certificate, for whom it acts, what may be sent, what is left of the quota, and how far "
            "the clocks are apart. A good first request.",
            parameters=(
                Parameter(
                    name="Date",
                    where="header",
                    schema=text(),
                    description="Your clock, as HTTP writes it (RFC 9110, section 6.6.1), to have it compared.",
                ),
            ),
            answers=(
                Answer(
                    status=HTTPStatus.OK,
                    description="What it sees.",
                    content={JSON: Content(schema=ref("WhoAmI"), example=examples.whoami(facts.gateway))},
                ),
            ),
        ),
        Operation(
            method="GET",
            path="/api/v1/trust",
            name="getTrust",
            group=Group.ACCOUNT,
            summary="Get the certificates that sign receipts and evidence",
            description="The present one and those before it. Compare them once with what the operator gave you on "
            "another way; a certificate inside a statement proves nothing.",
            answers=(
                Answer(
                    status=HTTPStatus.OK,
                    description="The certificates, and their keys as a JWK Set.",
                    content={JSON: Content(schema=ref("Trust"), example=examples.trust(facts.gateway))},
                ),
            ),
        ),
    )


_IF_NONE_MATCH: Final = Parameter(
    name="If-None-Match",
    where="header",
    schema=text(),
    description="The `ETag` of the copy that you have.",
)


def _file(path: str, name: str, summary: str, description: str, media_type: str) -> Operation:
    return Operation(
        method="GET",
        path=f"/api/v1/{path}",
        name=name,
        group=Group.CONTRACT,
        summary=summary,
        description=description,
        parameters=(_IF_NONE_MATCH,),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="The file; it may be kept for an hour.",
                content={media_type: Content(schema={"description": "A file."})},
                headers=("ETag", "Cache-Control"),
            ),
            Answer(
                status=HTTPStatus.NOT_MODIFIED,
                description="Your copy is the present one.",
                headers=("ETag", "Cache-Control"),
            ),
        ),
    )


CONTRACT_OPERATIONS: Final = (
    _file("docs", "getDocs", "Read this contract", "This page. It needs nothing but itself.", "text/html"),
    _file(
        "openapi.json",
        "getOpenApi",
        "Get this contract as OpenAPI",
        "OpenAPI 3.1 with JSON Schema 2020-12, for tools.",
        JSON,
    ),
    _file(
        "message.xsd",
        "getMessageSchema",
        "Get the XML schema of messages",
        "Closed. It imports xmldsig-subset.xsd, which stands beside it.",
        XML,
    ),
    _file("batch.xsd", "getBatchSchema", "Get the XML schema of batches", "Closed, as that of messages.", XML),
    _file("receipt.xsd", "getReceiptSchema", "Get the XML schema of receipts", "Closed, as that of messages.", XML),
    _file(
        "xmldsig-subset.xsd",
        "getSignatureSchema",
        "Get the XML schema of signatures",
        "The part of XML Signature that the gateway takes and makes.",
        XML,
    ),
    _file(
        "message.schema.json",
        "getMessageJsonSchema",
        "Get the JSON Schema of messages",
        "The payload of a message as JSON Web Signature: its fields in their JSON form, over which the gateway also "
        "tells whether two messages are the same.",
        "application/schema+json",
    ),
    _file(
        "batch.schema.json",
        "getBatchJsonSchema",
        "Get the JSON Schema of batches",
        "The payload of a batch as JSON Web Signature.",
        "application/schema+json",
    ),
    _file(
        "examples/message.xml",
        "getMessageExample",
        "Get a signed example message",
        "With it a verifier can be tried without a gateway. Its signer is registered nowhere.",
        XML,
    ),
    _file(
        "examples/message.jws",
        "getMessageExampleJws",
        "Get the example message as JSON Web Signature",
        "The same message in the second dialect, with a signer of its own, registered nowhere.",
        "application/jose",
    ),
    _file(
        "examples/batch.xml",
        "getBatchExample",
        "Get a signed example batch",
        "Of two messages. Its signer is registered nowhere.",
        XML,
    ),
    _file(
        "examples/batch.jws",
        "getBatchExampleJws",
        "Get an example batch as JSON Web Signature",
        "Of the same two messages, in their JSON form. Its signer is registered nowhere.",
        "application/jose",
    ),
    _file(
        "examples/batch-m1.xml",
        "getItemExample",
        "Get the first message of the example batch",
        "The part `m1`, byte for byte: its SHA-256 stands in `examples/batch.xml`. The second differs in nothing "
        "but its `Reference`, 2026-000124.",
        XML,
    ),
    _file(
        "examples/batch-m1.json",
        "getItemExampleJson",
        "Get the first message of the example batch in its JSON form",
        "The part `m1` of `examples/batch.jws`, likewise.",
        JSON,
    ),
)
