"""
A second opinion about signed XML: signxml, an implementation that shares no code with ours but lxml and `cryptography`.

The two must agree. What ours accepts, signxml accepts, and has the same octets for signed. What ours refuses although
signxml takes the signature for good is refused for its shape, by a rule in `STRICTER`, and never over a digest or a
signature that does not match.

Ours is laxer in two cases, `STUMBLES`, in which signxml cannot read what it has itself written down: a prefix that is
not ASCII, and a reference such as `&#13;` behind the signature. There a verifier that mends just that must agree.
"""

import logging
import re
from dataclasses import replace

from cryptography import x509
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from gateway.crypto.manifest import MESSAGE_ROOT
from gateway.crypto.schema import read_schema
from gateway.crypto.xmlsig import SignedXml, verify_enveloped
from gateway.domain.ids import EnterpriseNumber
from gateway.errors import Kind, Refusal

logging.getLogger("signxml").setLevel(logging.INFO)  # at DEBUG it writes out every document

SENDER = EnterpriseNumber("0406798006")

# How the detail begins of every refusal by a rule that signxml does not know.
STRICTER = {
    Kind.MALFORMED_MESSAGE: (
        "larger than ",
        "not UTF-8",
        "the XML declaration names another encoding",
        "a document type",  # the word, in a comment too
        "only XML 1.0",
        "processing instructions and entities",
        "elements nested deeper",
        "more than 32 attributes",
        "more than 32 namespaces",
        "more than 200 comments",
    ),
    Kind.INVALID_MESSAGE: ("the message does not keep its schema",),
    Kind.SIGNATURE_INVALID: (
        "signature-count: ",
        "object: ",
        "shape: ",
        "a comment inside the signature",
        "reference-uri: ",
        "transforms: ",
        "inclusive-namespaces: ",
        "canonicalization-method ",
        "key-info: ",
        "key type: ",  # of the certificate in KeyInfo, which signxml does not read when it is given one
        "signature-method does not fit",
    ),
    Kind.SIGNER_MISMATCH: ("not registered",),
}

_CONFIGURATION = SignatureConfiguration(
    location="./",
    expect_references=1,
    signature_methods=frozenset(
        {
            SignatureMethod.RSA_SHA256,
            SignatureMethod.RSA_SHA384,
            SignatureMethod.RSA_SHA512,
            SignatureMethod.SHA256_RSA_MGF1,
            SignatureMethod.SHA384_RSA_MGF1,
            SignatureMethod.SHA512_RSA_MGF1,
            SignatureMethod.ECDSA_SHA256,
            SignatureMethod.ECDSA_SHA384,
            SignatureMethod.ECDSA_SHA512,
        }
    ),
    digest_algorithms=frozenset({DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512}),
)


STUMBLES = re.compile(rb"xmlns:[^=\s]*[\x80-\xff]|Signature\s*>[^<]*&#")


class MendedVerifier(XMLVerifier):
    """signxml, which writes elements down in ASCII, and with the text behind them, to read them anew."""

    def _tostring(self, xml_node: etree._Element, **_: object) -> bytes:
        return etree.tostring(xml_node, encoding="UTF-8", with_tail=False)


def signed_octets(
    body: bytes, certificate: x509.Certificate, verifier: type[XMLVerifier] = XMLVerifier
) -> bytes | None:
    """What signxml says was signed with the key of `certificate`; None: it does not accept the signature."""
    # Validity is not its business: it is asked about a moment within it.
    config = replace(_CONFIGURATION, verification_time=certificate.not_valid_before_utc)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_pis=False,
        remove_comments=False,
        collect_ids=False,
    )
    try:
        result = verifier().verify(
            body, x509_cert=certificate, expect_config=config, parser=parser, validate_schema=False
        )
    except Exception:  # noqa: BLE001 - whatever it raises about a hostile document, it does not accept it
        return None
    assert isinstance(result, VerifyResult)
    return result.signed_data


def agreed(body: bytes, certificate: x509.Certificate, sender: str = SENDER) -> SignedXml:
    """
    Verify a message of a sender who has registered one certificate, by both, and hold them to agree.

    Raises:
        Refusal: ours.
    """

    def check(claimed: EnterpriseNumber, presented: x509.Certificate) -> None:
        if (claimed, presented) != (sender, certificate):
            raise Refusal(Kind.SIGNER_MISMATCH, "not registered")

    schema = read_schema("message.xsd")
    try:
        signed = verify_enveloped(body, schema=schema, root_name=MESSAGE_ROOT, signer=check)
    except Refusal as refusal:
        stricter = refusal.detail.startswith(STRICTER.get(refusal.kind, ()))
        if not stricter and signed_octets(body, certificate) is not None:
            raise AssertionError("signxml accepts what is refused") from refusal
        raise
    theirs = signed_octets(body, certificate)
    if theirs is None and STUMBLES.search(body):
        theirs = signed_octets(body, certificate, MendedVerifier)
    assert theirs is not None, "signxml refuses what is accepted"
    assert etree.tostring(signed.root, method="c14n", exclusive=True) == theirs
    assert schema(signed.root), schema.error_log
    return signed
