"""Which event of the standard an entry of the traffic log corresponds to, if any."""

from typing import Any

import pytest

from gateway.records.evidence import etsi_event

EBOX = {"channel": "ebox-citizen", "attempt": 1, "messageStatus": "in-delivery"}
COMPANY = {**EBOX, "channel": "ebox-enterprise"}
PAPER = {**EBOX, "channel": "print"}


@pytest.mark.parametrize(
    ("event", "what", "name"),
    [
        ("accepted", {"status": "accepted"}, "SubmissionAcceptance"),
        ("accepted", {"status": "scheduled"}, "SubmissionAcceptance"),
        ("retrieved", {"messageStatus": "delivered"}, "ContentHandover"),
        ("erased", {"messageStatus": "delivered"}, None),
        ("cancelled", {**EBOX, "messageStatus": "cancelled"}, None),
        ("cancelled", {**PAPER, "messageStatus": "cancelled"}, None),
        # e-Box
        ("accepted", EBOX, "RelayAcceptance"),
        ("delivered", EBOX, "ContentConsignment"),
        ("delivered", COMPANY, "ContentConsignment"),
        ("delivered", {**EBOX, "reason": "no-digital-user"}, "ContentConsignment"),
        ("delivered", {**EBOX, "reason": "unread", "nextChannel": "print"}, None),
        ("read", EBOX, "ContentAccessTracking"),
        ("rejected", {**EBOX, "reason": "no-consent"}, "RelayRejection"),
        ("failed", {**EBOX, "reason": "given-up"}, "RelayFailure"),
        ("failed", {**EBOX, "reason": "expired"}, "ContentHandoverFailure"),
        ("failed", {**PAPER, "reason": "dossier-ended"}, "ContentHandoverFailure"),
        ("waiting", {**EBOX, "reason": "provider-trouble"}, None),
        ("in-doubt", {**EBOX, "reason": "outcome-unknown"}, None),
        # paper
        ("accepted", PAPER, "RelayToNonERDS"),
        ("printed", PAPER, None),
        ("enclosed", PAPER, None),
        ("dispatched", PAPER, "RelayToNonERDS"),
        ("in_transit", PAPER, None),
        ("held", PAPER, None),
        ("delivered", PAPER, "ContentHandover"),
        ("returned", {**PAPER, "code": "moved"}, "ContentHandoverFailure"),
        ("lost", PAPER, "RelayToNonERDSFailure"),
        ("rejected", {**PAPER, "reason": "refused"}, "RelayToNonERDSFailure"),
        ("failed", {**PAPER, "reason": "refused"}, "RelayToNonERDSFailure"),
        ("cancelled", {**PAPER, "messageStatus": "undeliverable"}, "RelayToNonERDSFailure"),
        ("something-newer", PAPER, None),
    ],
)
def test_an_entry_corresponds_to_its_event_of_the_standard(event: str, what: dict[str, Any], name: str | None) -> None:
    assert etsi_event(event, what) == (None if name is None else f"http://uri.etsi.org/19522/Event/{name}")
