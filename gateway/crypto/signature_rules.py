"""
What a signature must look like before any cryptography is done with it: the algorithms allowed, and its exact shape.

The schema says nearly the same; here each rule has a name that tells a sender what to change, and the order of the
transforms, which no schema can state, is held.
"""

import re
from typing import Final

from lxml import etree

from gateway.crypto.signature_value import DIGESTS, METHODS

__all__ = ["DS", "broken_rule"]

DS: Final = "{http://www.w3.org/2000/09/xmldsig#}"

_EXC_C14N: Final = "http://www.w3.org/2001/10/xml-exc-c14n#"
_TRANSFORMS: Final = ["http://www.w3.org/2000/09/xmldsig#enveloped-signature", _EXC_C14N]
_INCLUSIVE_NAMESPACES: Final = f"{{{_EXC_C14N}}}InclusiveNamespaces"
_OBJECT: Final = f"{DS}Object"
_SIGNATURE: Final = [f"{DS}SignedInfo", f"{DS}SignatureValue", f"{DS}KeyInfo"]
_SIGNED_INFO: Final = [f"{DS}CanonicalizationMethod", f"{DS}SignatureMethod", f"{DS}Reference"]
_REFERENCE: Final = [f"{DS}Transforms", f"{DS}DigestMethod", f"{DS}DigestValue"]
_FRAGMENT: Final = re.compile(r"[#/]([A-Za-z0-9-]{1,32})\Z")


def broken_rule(signature: etree._Element, root_id: str) -> str | None:
    """
    Return the first rule that a `ds:Signature` breaks, in words that hold none of its values; None: it keeps them all.

    `root_id` is the `Id` of the document's root. Runs before any cryptography, and whatever the schema found.
    """
    tags = [node.tag for node in signature.iter()]
    if not all(isinstance(tag, str) for tag in tags):
        return "a comment inside the signature"
    if any(child.tag == _OBJECT for child in signature):
        return "object: a ds:Object is not allowed"
    if _tags(signature) != _SIGNATURE:
        return "shape: a Signature holds SignedInfo, SignatureValue and KeyInfo"
    signed_info, _, key_info = signature
    parts = _tags(signed_info)
    if parts.count(f"{DS}Reference") != 1:
        return "reference-count: exactly one Reference"
    if parts != _SIGNED_INFO:
        return "shape: SignedInfo holds CanonicalizationMethod, SignatureMethod and Reference"
    canonicalization, method, reference = signed_info
    if _INCLUSIVE_NAMESPACES in tags:
        return "inclusive-namespaces: a prefix list is not allowed"
    if canonicalization.get("Algorithm") != _EXC_C14N:
        return f"canonicalization-method {_fragment(canonicalization)} refused: exclusive without comments only"
    if method.get("Algorithm") not in METHODS:
        return f"signature-method {_fragment(method)} refused"
    if len(method) or len(canonicalization):
        return "shape: CanonicalizationMethod and SignatureMethod are empty elements"
    return _broken_reference_rule(reference, root_id) or _broken_key_info_rule(key_info)


def _broken_reference_rule(reference: etree._Element, root_id: str) -> str | None:
    if reference.get("URI") not in ("", f"#{root_id}"):
        return "reference-uri: must be empty or # and the Id of the root"
    if _tags(reference) != _REFERENCE:
        return "shape: Reference holds Transforms, DigestMethod and DigestValue"
    transforms, digest_method, _ = reference
    if [transform.get("Algorithm") for transform in transforms] != _TRANSFORMS:
        return "transforms: exactly enveloped-signature, then exclusive canonicalisation without comments"
    if any(len(transform) for transform in transforms):
        return "transforms: no parameters are allowed"
    if digest_method.get("Algorithm") not in DIGESTS:
        return f"digest-method {_fragment(digest_method)} refused"
    return None


def _broken_key_info_rule(key_info: etree._Element) -> str | None:
    if _tags(key_info) != [f"{DS}X509Data"] or _tags(key_info[0]) != [f"{DS}X509Certificate"]:
        return "key-info: exactly one X509Data with exactly one X509Certificate"
    return None


def _tags(element: etree._Element) -> list[str]:
    return [child.tag for child in element]


def _fragment(element: etree._Element) -> str:
    """Return the last part of an algorithm's URI, `rsa-sha1`; nothing longer than an algorithm's name."""
    found = _FRAGMENT.search(element.get("Algorithm", ""))
    return found[1] if found else "unknown"
