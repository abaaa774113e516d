"""Signature wrapping: whatever is done to a signed message, it is refused or it is exactly what was signed."""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import xmlsec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import event, given, settings
from hypothesis import strategies as st
from lxml import etree

from gateway.crypto.manifest import content_sha256
from gateway.domain.message import Message
from gateway.errors import Kind, Refusal

if TYPE_CHECKING:
    from tests.plugins.forging import DS, Shape, Signer, forge
    from tests.plugins.wrapping import TOKEN, Variant, variants
else:
    from forging import DS, Shape, Signer, forge
    from wrapping import TOKEN, Variant, variants

Judge = Callable[[bytes, Signer], Message]

REFUSED = {Kind.MALFORMED_MESSAGE, Kind.INVALID_MESSAGE, Kind.SIGNATURE_INVALID}
# What each family must hold at least, so that a generator that falls silent is noticed.
AT_LEAST = {
    "wrapped": 560,
    "nested": 30,
    "fields": 70,
    "texts": 800,
    "attributes": 300,
    "attribute order": 15,
    "ids": 400,
    "spaces": 350,
    "namespaces": 36,
    "declarations": 75,
}


@dataclass(frozen=True)
class Outcome:
    """What the gateway made of a variant: a message, or the kind of its refusal."""

    variant: Variant
    message: Message | None
    kind: Kind | None


def outcome(variant: Variant, judge: Callable[[bytes], Message]) -> Outcome:
    try:
        return Outcome(variant, judge(variant.body), None)
    except Refusal as refusal:
        return Outcome(variant, None, refusal.kind)


@dataclass(frozen=True)
class Run:
    """Every variant of one signed message, judged."""

    signer: Signer
    uri: str
    outcomes: list[Outcome]


@pytest.fixture(
    scope="module",
    params=[("gemeente", ""), ("gemeente", "#message"), ("belasting", "#message")],
    ids=["EC, whole document", "EC, by Id", "RSA, by Id"],
)
def run(request: pytest.FixtureRequest, honest: Message, honest_xml: bytes, evil_xml: bytes, judge: Judge) -> Run:
    name, uri = request.param
    signer: Signer = request.getfixturevalue(name)
    signed = forge(honest_xml, signer, Shape(uri=uri))
    assert judge(signed, signer) == honest
    outcomes = [outcome(variant, lambda body: judge(body, signer)) for variant in variants(signed, evil_xml)]
    return Run(signer, uri, outcomes)


def summary(run: Run) -> str:
    """One line: how many variants of each family were made, and what became of all."""
    made = Counter(found.variant.family for found in run.outcomes)
    became = Counter(str(found.kind or "the honest message") for found in run.outcomes)
    parts = [", ".join(f"{number} {what}" for what, number in counts.most_common()) for counts in (made, became)]
    return f"\n{len(run.outcomes)} variants: {'; '.join(parts)}\n"


def test_every_variant_is_refused_or_is_exactly_the_signed_message(
    run: Run, honest: Message, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        sys.stdout.write(summary(run))
    forged = [
        found.variant.name
        for found in run.outcomes
        if found.message is not None
        and (found.message != honest or content_sha256(found.message) != content_sha256(honest))
    ]
    assert forged == []
    assert {found.kind for found in run.outcomes} == REFUSED | {None}
    made = Counter(found.variant.family for found in run.outcomes)
    assert {family: made[family] for family, number in AT_LEAST.items() if made[family] < number} == {}


# ── The other implementation ──


def xmlsec_accepts(body: bytes, signer: Signer) -> bool:
    """Whether python-xmlsec, as its manual shows it, takes any signature in the document for valid."""
    try:
        root = etree.fromstring(body)
        xmlsec.tree.add_ids(root, ["Id"])
    except (etree.XMLSyntaxError, xmlsec.Error):
        return False
    return any(xmlsec_verifies(signature, signer) for signature in root.iter(f"{{{DS}}}Signature"))


def xmlsec_verifies(signature: etree._Element, signer: Signer) -> bool:
    context = xmlsec.SignatureContext()
    pem = signer.certificate.public_bytes(Encoding.PEM)
    context.key = xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatCertPem)
    try:
        context.verify(signature)
    except xmlsec.Error:
        return False
    return True


def test_what_the_gateway_accepts_xmlsec_accepts_too(run: Run) -> None:
    accepted = [found.variant for found in run.outcomes if found.message is not None]
    assert len(accepted) >= 500
    assert [variant.name for variant in accepted if not xmlsec_accepts(variant.body, run.signer)] == []


def test_the_wrapped_variants_deceive_a_verifier_that_does_not_ask_what_was_signed(run: Run) -> None:
    wrapped = [found.variant.body for found in run.outcomes if found.variant.family == "wrapped"]
    deceiving = [body for body in wrapped if xmlsec_accepts(body, run.signer)]
    assert bool(deceiving) is bool(run.uri)  # with an empty URI the whole document is signed, so that none can
    assert len(deceiving) >= 75 or not run.uri


# ── Whatever else: splices of the two messages ──

Splice = tuple[str, float, float, int]
INSERTED = (
    b"<!-- -->",
    b"<?x y?>",
    b"<![CDATA[x]]>",
    b"&#13;",
    b"&amp;",
    b"<ds:Object>",
    b"</ds:Object>",
    b"<Message>",
    b"</Message>",
    b' xmlns="urn:x"',
    b' Id="message"',
    b"\0",
    b"\xff",
)


def spliced(signed: bytes, evil: bytes, splices: list[Splice]) -> bytes:
    """Tokens of the signed message with tokens of itself or of the attacker's copied in, removed or exchanged."""
    tokens, theirs = TOKEN.findall(signed), TOKEN.findall(evil)
    for how, source, target, length in splices:
        at = int(target * len(tokens))
        match how:
            case "copy theirs" | "copy own":
                donor = theirs if how == "copy theirs" else tokens
                start = int(source * len(donor))
                tokens[at:at] = donor[start : start + length]
            case "put theirs":
                start = int(source * len(theirs))
                tokens[at : at + length] = theirs[start : start + length]
            case "remove":
                del tokens[at : at + length]
            case "move":
                moved = tokens[at : at + length]
                del tokens[at : at + length]
                start = int(source * len(tokens))
                tokens[start:start] = moved
            case _:
                tokens.insert(at, INSERTED[int(source * len(INSERTED))])
    return b"".join(tokens)


PLACES = st.floats(0, 1, exclude_max=True)
HOW = st.sampled_from(["copy theirs", "copy own", "put theirs", "remove", "move", "insert"])


@settings(max_examples=600, deadline=None)
@given(splices=st.lists(st.tuples(HOW, PLACES, PLACES, st.integers(1, 12)), min_size=1, max_size=4))
def test_no_splice_of_two_messages_passes_for_the_signed_one(
    *, splices: list[Splice], honest: Message, honest_xml: bytes, evil_xml: bytes, gemeente: Signer, judge: Judge
) -> None:
    found = outcome(
        Variant(family="spliced", name=str(splices), body=spliced(forge(honest_xml, gemeente), evil_xml, splices)),
        lambda body: judge(body, gemeente),
    )
    event(str(found.kind or "the honest message"))
    assert found.message in (None, honest)
    assert found.kind in REFUSED | {None, Kind.SIGNER_MISMATCH}
