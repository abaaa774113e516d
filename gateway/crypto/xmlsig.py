"""
XML signatures: the hardened parse, the verification in nine numbered steps, and nothing else that verifies XML.

What is accepted (W3C XML Signature 1.1 and its Best Practices note): one enveloped signature over the whole root,
exclusive canonicalisation without comments, SHA-256 or stronger, RSA PKCS#1 or PSS and ECDSA, one certificate in
KeyInfo. Trust comes from the caller's registration; the certificate in the message only selects among what is
registered. Business code sees only what was read anew from the octets that were signed, never the tree that was
received.

All functions are CPU-bound (a usual message takes about a quarter of a millisecond) and may run in several threads at
once; the caller decides.
"""

import codecs
import hmac
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from lxml import etree

from gateway.crypto.certs import parse_certificate
from gateway.crypto.rejection import CertificateRejected
from gateway.crypto.schema import NOT_EXPECTED, local_name, pointer_to, schema_faults
from gateway.crypto.signature_rules import DS, broken_rule
from gateway.crypto.signature_value import digest_of, methods_of, verify_value
from gateway.domain.ids import EnterpriseNumber, InvalidIdentifier, parse_enterprise_number
from gateway.errors import FieldError, Kind, Refusal

__all__ = [
    "MESSAGE_LIMIT_BYTES",
    "SignedXml",
    "SignerCheck",
    "has_signature",
    "parse_stored",
    "read_unsigned",
    "signer_of_xml",
    "verify_enveloped",
    "verify_pinned",
]

SignerCheck = Callable[[EnterpriseNumber, x509.Certificate], object]
"""
Judges a signer: the sender number that a document claims, and the one certificate of its KeyInfo.

Returns when that certificate is registered for signing by that sender, valid now, of a permitted key and usage and not
revoked; raises `Refusal` (signer-mismatch, certificate-revoked, signature-invalid) otherwise. No cryptography has been
done when it is called, so it grants nothing: it only allows the signature to be checked with this certificate.
"""

MESSAGE_LIMIT_BYTES: Final = 256 * 1024
_DEPTH_LIMIT: Final = 32
_NAMESPACES_LIMIT: Final = 32
_ATTRIBUTES_LIMIT: Final = 32  # of one element, more than four times what any has
_COMMENTS_LIMIT: Final = 200
_ATTRIBUTE_FAULTS_SHOWN: Final = 10

_XML_DECLARATION: Final = re.compile(rb"<\?xml\s[^>]*?\?>")
_ENCODING: Final = re.compile(rb"""\sencoding\s*=\s*["']([^"']*)["']""")
_SPACE: Final = b" \t\r\n"

_CERTIFICATE: Final = f"{DS}KeyInfo/{DS}X509Data/{DS}X509Certificate"
_too_deep = etree.XPath("boolean(" + "/*" * (_DEPTH_LIMIT + 1) + ")")
_too_many_attributes = etree.XPath(f"boolean(//@*[{_ATTRIBUTES_LIMIT + 1}])")
_string = etree.XPath("string()")  # unlike `text`, it does not end at a comment
_namespaced_attributes = etree.XPath("//@*[namespace-uri()]/..")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedXml:
    """A verified document: its root without the signature, as it was signed, and the certificate that verified it."""

    root: etree._Element
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Received:
    """A document that has the right shape; nothing in it is to be believed yet."""

    root: etree._Element
    signature: etree._Element
    certificate: x509.Certificate
    has_comments: bool


def verify_enveloped(
    body: bytes,
    *,
    schema: etree.XMLSchema,
    root_name: str,
    signer: SignerCheck,
    limit_bytes: int = MESSAGE_LIMIT_BYTES,
) -> SignedXml:
    """
    Verify a sender's document, `{namespace}Name`, whose `Sender/EnterpriseNumber` says who signed it.

    `signer` answers for the certificate, its validity included; the audience, the age and the uniqueness of what was
    signed (the rest of step 8) are the caller's, who reads them from the returned root.

    Raises:
        Refusal: MALFORMED_MESSAGE, INVALID_MESSAGE with every fault that the schema names, SIGNATURE_INVALID with the
            rule that failed, or what `signer` raised.
    """
    received = _inspect(body, schema, root_name, limit_bytes)  # steps 1 to 4
    # (5) Key: the registration of the claimed sender decides whether this certificate may verify at all.
    # (9) Chain, validity, key usage, key policy and revocation are part of that same decision.
    claimed = _sender(received.root)
    signer(claimed, received.certificate)
    signed = _verify(received, schema)  # steps 6 and 7
    # (8) The sender whose registration was asked is the sender in what was signed.
    if _sender(signed.root) != claimed:
        raise _invalid("the signed sender is not the sender that was checked")
    return signed


def verify_pinned(
    body: bytes,
    *,
    schema: etree.XMLSchema,
    root_name: str,
    certificate: x509.Certificate,
    limit_bytes: int = MESSAGE_LIMIT_BYTES,
) -> SignedXml:
    """
    Verify a document against one certificate that the caller trusts beforehand, at whatever age of either.

    Raises:
        Refusal: as `verify_enveloped`; SIGNATURE_INVALID when the document names another certificate.
    """
    received = _inspect(body, schema, root_name, limit_bytes)
    if received.certificate != certificate:
        raise _invalid("signed with another certificate than the trusted one")
    return _verify(received, schema)


def parse_stored(body: bytes) -> etree._Element:
    """
    Return the signed content of a document that was verified before it was stored, as the verifier returned it then.

    Verifies nothing: only for what the gateway itself kept, never for what comes from outside.

    Raises:
        Refusal: MALFORMED_MESSAGE.
    """
    root = _parse(body)
    _take_signature_out(root)
    return _parse_canonical(_canonical(root))


def has_signature(body: bytes) -> bool:
    """
    Tell whether the root of a stored document holds a signature; verifies nothing.

    Raises:
        Refusal: MALFORMED_MESSAGE.
    """
    return _parse(body).find(f"{DS}Signature") is not None


def signer_of_xml(body: bytes) -> x509.Certificate:
    """
    Return the certificate in the signature of a document that was verified before it was stored.

    Raises:
        Refusal: MALFORMED_MESSAGE, or SIGNATURE_INVALID: it is not signed.
    """
    signature = _parse(body).find(f"{DS}Signature")
    if signature is None:
        raise _invalid("signature-count: the document is not signed")
    return _certificate(signature)


def read_unsigned(
    body: bytes, *, schema: etree.XMLSchema, root_name: str, limit_bytes: int = MESSAGE_LIMIT_BYTES
) -> etree._Element:
    """
    Return the root of a document that carries no signature, because a signed one lists its digest: as the verifier
    would have returned it.

    Raises:
        Refusal: MALFORMED_MESSAGE, or INVALID_MESSAGE with every fault that the schema names.
    """
    _check_bytes(body, limit_bytes)
    root = _parse(body)
    if root.tag != root_name:
        raise _wrong([FieldError(pointer="/", detail=f"the root element must be {root_name}")])
    signature = next(root.iter(f"{DS}Signature"), None)
    if signature is not None:
        raise _wrong(
            [FieldError(pointer=pointer_to(signature), detail="a message of a batch has none; the batch is signed")]
        )
    _require_few_namespaces(body, root)
    if faults := _namespaced_attribute_faults(root) or schema_faults(schema, root):
        raise _wrong(faults)
    content = _parse_canonical(_canonical(root))
    if _has_comments(body) and (faults := schema_faults(schema, content)):
        raise _wrong(faults)
    return content


def _inspect(body: bytes, schema: etree.XMLSchema, root_name: str, limit_bytes: int) -> _Received:
    # (1) Bytes: size, UTF-8 and no document type, before any parser sees them.
    _check_bytes(body, limit_bytes)

    # (2) Hardened parse; what slipped past the scan of bytes is refused by what the parser saw.
    root = _parse(body)

    # (3) Closed schema; exactly one signature, child of the root; no attribute that a schema cannot close.
    if root.tag != root_name:
        raise _wrong([FieldError(pointer="/", detail=f"the root element must be {root_name}")])
    signatures = list(root.iter(f"{DS}Signature"))
    if not signatures:
        raise _invalid("signature-count: the document is not signed")
    signature = signatures[0]
    after = next(signature.itersiblings(tag=etree.Element), None)
    if len(signatures) > 1 or signature.getparent() is not root or after is not None:
        raise _invalid("signature-count: exactly one Signature, the last child of the root")
    faults = _namespaced_attribute_faults(root) or schema_faults(schema, root)
    place = pointer_to(signature)
    in_signature = [fault for fault in faults if _is_within(fault, place)]
    if len(in_signature) < len(faults):
        raise _wrong([fault for fault in faults if fault not in in_signature])
    _require_few_namespaces(body, root)

    # (4) SignedInfo, before any cryptography.
    if rule := broken_rule(signature, root.get("Id", "")):
        raise _invalid(rule)
    if in_signature:
        raise _invalid(f"shape: {in_signature[0].pointer} {in_signature[0].detail}")

    certificate = _certificate(signature)
    _check_key_type(signature, certificate)
    return _Received(root=root, signature=signature, certificate=certificate, has_comments=_has_comments(body))


def _verify(received: _Received, schema: etree.XMLSchema) -> SignedXml:
    name, root_id = received.root.tag, received.root.get("Id")
    # (6) The signature itself, with the certificate that was let in and no other.
    signed = _signed_content(received)

    # (7) What was signed must be the whole document. From here on only what was signed counts; comments, which the
    # canonical form leaves out, are gone from it, so the schema judges the texts as they were signed. Without comments
    # it would repeat step 3: the canonical form changes no text, attribute or name that a schema sees, and our schemas
    # take a document without its signature as they take it with it.
    if signed.tag != name or signed.get("Id") != root_id:
        raise _invalid("the signed element is not the document's root")
    if received.has_comments and (faults := schema_faults(schema, signed)):
        raise _wrong(faults)
    return SignedXml(root=signed, certificate=received.certificate)


def _signed_content(received: _Received) -> etree._Element:
    """Return what was signed, read anew from its octets, once value and digest hold; the received tree is used up."""
    signed_info, value, _ = received.signature
    method = signed_info[1].get("Algorithm", "")
    try:
        # SignedInfo in its place, where the namespaces are declared that it uses.
        signed_octets = _canonical_form(signed_info)
        verify_value(_base64(value.text), signed_octets, method=method, key=received.certificate.public_key())
        # What it says of the content counts as read from the octets that were signed.
        _, _, reference = _parse_canonical(signed_octets)
        _, digest_method, digest_value = reference
        _take_signature_out(received.root)
        content = _canonical_form(received.root)
        digest = digest_of(content, digest_method.get("Algorithm", ""))
        if hmac.compare_digest(digest, _base64(digest_value.text)):
            return _parse_canonical(content)
    except InvalidSignature:
        raise _invalid("signature value does not match") from None
    except (etree.LxmlError, UnsupportedAlgorithm, ValueError) as exc:
        # for example a relative namespace, which has no canonical form; the cause's text may quote the document
        raise _invalid(f"cannot be verified ({type(exc).__name__})") from None
    raise _invalid("digest value does not match: the content was changed after it was signed")


def _check_bytes(body: bytes, limit_bytes: int) -> None:
    if len(body) > limit_bytes:
        raise _malformed(f"larger than {limit_bytes} bytes")
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _malformed(f"not UTF-8 at byte {exc.start}") from None  # the cause would carry the whole body
    if b"\0" in body:  # UTF-16 and UTF-32 without a byte order mark, which are well-formed UTF-8
        raise _malformed("not UTF-8: it holds NUL bytes")
    declaration = _XML_DECLARATION.match(body.removeprefix(codecs.BOM_UTF8))
    encoding = _ENCODING.search(declaration[0]) if declaration else None
    if encoding and encoding[1].lower() != b"utf-8":
        raise _malformed("the XML declaration names another encoding than UTF-8")
    if b"<!DOCTYPE" in body:
        raise _malformed("a document type (DTD) is not allowed")
    # Of each attribute, and each piece of text, that it does not know the schema writes a long fault; comments can cut
    # one text into thousands of pieces.
    if body.count(b"<!--") > _COMMENTS_LIMIT:
        raise _malformed(f"more than {_COMMENTS_LIMIT} comments")


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_pis=False,
        remove_comments=False,
        collect_ids=False,
    )


def _parse(body: bytes) -> etree._Element:
    try:
        root = etree.fromstring(body, parser=_parser())
    except etree.XMLSyntaxError as exc:
        line, column = exc.position
        # libxml2's own text may quote the document
        raise _malformed(f"not well-formed XML: line {line}, column {column}") from None
    info = root.getroottree().docinfo
    if info.internalDTD is not None or info.externalDTD is not None:
        raise _malformed("a document type (DTD) is not allowed")
    if info.encoding.upper() != "UTF-8" or info.xml_version != "1.0":
        raise _malformed("only XML 1.0 in UTF-8")
    instructions = (etree.ProcessingInstruction, etree.Entity)
    outside = (*root.itersiblings(preceding=True), *root.itersiblings())
    if any(node.tag in instructions for node in outside) or next(root.iter(*instructions), None) is not None:
        raise _malformed("processing instructions and entities are not allowed")
    if _too_deep(root):
        raise _malformed(f"elements nested deeper than {_DEPTH_LIMIT}")
    if _too_many_attributes(root):
        raise _malformed(f"more than {_ATTRIBUTES_LIMIT} attributes on one element")
    return root


def _parse_canonical(octets: bytes) -> etree._Element:
    # Canonical octets of a tree that `_parse` let through hold nothing that it refuses.
    return etree.fromstring(octets, parser=_parser())


def _take_signature_out(root: etree._Element) -> None:
    # The enveloped-signature transform (XML Signature 1.1, 6.6.4) takes the element out, and not the text behind it.
    etree.strip_elements(root, f"{DS}Signature", with_tail=False)


def _canonical_form(element: etree._Element) -> bytes:
    return etree.tostring(element, method="c14n", exclusive=True, with_comments=False)


def _canonical(root: etree._Element) -> bytes:
    try:
        return _canonical_form(root)
    except etree.LxmlError:
        raise _malformed("has no canonical form, for example for a relative namespace") from None


def _has_comments(body: bytes) -> bool:
    return b"<!--" in body


def _require_few_namespaces(body: bytes, root: etree._Element) -> None:
    # No schema sees declarations, and the time to write and canonicalise them grows with the square of their number.
    # Each holds this word, so a body with few of the word needs no look at every element.
    if body.count(b"xmlns") <= _NAMESPACES_LIMIT:
        return
    if any(len(element.nsmap) > _NAMESPACES_LIMIT for element in root.iter(etree.Element)):
        raise _malformed(f"more than {_NAMESPACES_LIMIT} namespaces declared around one element")


def _namespaced_attribute_faults(root: etree._Element) -> list[FieldError]:
    # A closed schema still lets xsi:type, xsi:nil and xsi:schemaLocation through; the first two change what it checks.
    elements: list[etree._Element] = cast("Any", _namespaced_attributes(root))[:_ATTRIBUTE_FAULTS_SHOWN]
    return [
        FieldError(pointer=pointer_to(element), detail="attributes with a namespace are not allowed")
        for element in elements
    ]


def _is_within(fault: FieldError, place: str) -> bool:
    # Where the last element of the content is missing, the schema points to the signature behind it.
    if fault.pointer == place:
        return not fault.detail.startswith(NOT_EXPECTED)
    return fault.pointer.startswith(place + "/")


def _certificate(signature: etree._Element) -> x509.Certificate:
    text = signature.findtext(_CERTIFICATE)
    try:
        return parse_certificate(_base64(text))
    except (ValueError, CertificateRejected) as exc:
        raise _invalid("key-info: the X509Certificate cannot be read") from exc


def _check_key_type(signature: etree._Element, certificate: x509.Certificate) -> None:
    fitting = methods_of(certificate.public_key())
    if not fitting:
        raise _invalid("key type: the certificate must hold an RSA or EC key")
    if signature[0][1].get("Algorithm") not in fitting:
        raise _invalid("signature-method does not fit the key of the certificate")


def _base64(text: str | None) -> bytes:
    return b64decode((text or "").encode("ascii").translate(None, delete=_SPACE), validate=True)


def _sender(root: etree._Element) -> EnterpriseNumber:
    namespace = root.tag.removesuffix(local_name(root))
    element = root.find(f"{namespace}Sender/{namespace}EnterpriseNumber")
    try:
        return parse_enterprise_number("" if element is None else cast("str", _string(element)))
    except InvalidIdentifier as exc:
        pointer = f"/{local_name(root)}/Sender/EnterpriseNumber"
        raise _wrong([FieldError(pointer=pointer, detail=str(exc))]) from exc


def _malformed(detail: str) -> Refusal:
    return Refusal(Kind.MALFORMED_MESSAGE, detail)


def _wrong(faults: list[FieldError]) -> Refusal:
    return Refusal(Kind.INVALID_MESSAGE, "the message does not keep its schema; see errors", errors=faults)


def _invalid(rule: str) -> Refusal:
    return Refusal(Kind.SIGNATURE_INVALID, rule)
