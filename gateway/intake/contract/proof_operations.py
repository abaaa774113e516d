"""The operations by which a sender gets what it can show to others."""

from http import HTTPStatus
from typing import Final

from gateway.errors import Kind
from gateway.intake.contract import examples
from gateway.intake.contract.letter_operations import JSON, MESSAGE_ID, ONE
from gateway.intake.contract.operation import Answer, Content, Group, Operation, Parameter
from gateway.intake.contract.shapes import ref

_OWN: Final = frozenset({Kind.NOT_FOUND})

PROOF_OPERATIONS: Final = (
    Operation(
        method="GET",
        path=ONE + "/evidence",
        name="listEvidence",
        group=Group.PROVE,
        summary="List the evidence about a message",
        description="One statement for each thing that happened to it; the first is the acceptance.",
        parameters=(MESSAGE_ID,),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="The list, which only ever grows.",
                content={JSON: Content(schema=ref("EvidenceList"), example=examples.EVIDENCE)},
            ),
        ),
        problems=_OWN,
    ),
    Operation(
        method="GET",
        path=ONE + "/evidence/{n}",
        name="getEvidence",
        group=Group.PROVE,
        summary="Get one signed statement",
        description="Signed when it is first asked for; from then on always the same octets.",
        parameters=(
            MESSAGE_ID,
            Parameter(
                name="n",
                where="path",
                schema={"type": "integer", "minimum": 1},
                description="Its number in the list.",
                required=True,
            ),
        ),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="The statement.",
                content={"application/jose": Content(schema=ref("EvidenceToken"), example=examples.TOKEN)},
            ),
        ),
        problems=_OWN,
    ),
    Operation(
        method="GET",
        path=ONE + "/kit",
        name="getKit",
        group=Group.PROVE,
        summary="Get all proof about a message, as a ZIP",
        description="The receipt as JWS and XML, every statement by now, the certificates that signed them, and a "
        "`README.txt` that says how to verify it all with openssl and xmlsec1. It holds no letter and no name.",
        parameters=(MESSAGE_ID,),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="The kit.",
                content={"application/zip": Content(schema={"description": "A ZIP file."})},
                headers=("Content-Disposition",),
            ),
        ),
        problems=_OWN,
    ),
    Operation(
        method="GET",
        path=ONE + "/bpost-status",
        name="getPostalStatus",
        group=Group.PROVE,
        summary="Where a registered letter is",
        description="Only for messages with `product` `registered` or `registered_ar`, once they go on paper.",
        parameters=(MESSAGE_ID,),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="What the post says.",
                content={JSON: Content(schema=ref("PostalStatus"), example=examples.POSTAL_STATUS)},
            ),
        ),
        problems=_OWN,
    ),
    Operation(
        method="GET",
        path=ONE + "/bpost-attestation",
        name="getProofOfPosting",
        group=Group.PROVE,
        summary="Get the proof that a registered letter was posted",
        description="From the print house, as it gives it.",
        parameters=(MESSAGE_ID,),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="The proof.",
                content={"application/pdf": Content(schema={"description": "A PDF file."})},
                headers=("Content-Disposition",),
            ),
        ),
        problems=_OWN | {Kind.PROVIDER_UNAVAILABLE},
    ),
)
