"""
Certification paths (RFC 5280, section 6.1), walked by the library's verifier.

That interface stands outside the library's compatibility promise, so nothing else in the gateway calls it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

_MAX_INTERMEDIATES: Final = 4

# The leaf's own purposes are the caller's to judge, for a signer's differ from a client's, and seals have no
# alternative name. What stays enforced: signatures, validity, basicConstraints, keyCertSign, path length, name
# constraints, the strength of authorities' keys and digests, and that no critical extension goes unread.
_LEAF_POLICY: Final = ExtensionPolicy.permit_all()
_AUTHORITY_POLICY: Final = ExtensionPolicy.webpki_defaults_ca().may_be_present(
    x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None
)


def verified_path(
    leaf: x509.Certificate, certificates: Sequence[x509.Certificate], now: datetime
) -> tuple[x509.Certificate, ...] | None:
    """
    Return a path from `leaf` to an anchor, both included, that holds at `now`; None where there is none.

    Anchors are those of `certificates` that no other of them can have issued; the rest are intermediates.
    """
    subjects = {certificate.subject for certificate in certificates}
    anchors: list[x509.Certificate] = []
    intermediates: list[x509.Certificate] = []
    for certificate in certificates:
        is_anchor = certificate.issuer == certificate.subject or certificate.issuer not in subjects
        (anchors if is_anchor else intermediates).append(certificate)
    if not anchors:
        return None
    verifier = (
        PolicyBuilder()
        .store(Store(anchors))
        .time(now)
        .max_chain_depth(_MAX_INTERMEDIATES)
        .extension_policies(ee_policy=_LEAF_POLICY, ca_policy=_AUTHORITY_POLICY)
        .build_client_verifier()
    )
    try:
        return tuple(verifier.verify(leaf, intermediates).chain)
    except VerificationError:
        return None
