"""Who has an e-Box: consents of citizens, preferences of enterprises, mandates between organisations."""

from collections.abc import Iterable
from typing import Any

from gateway.domain.ids import InvalidIdentifier, parse_enterprise_number, parse_ssin
from gateway.simulators import magic
from gateway.simulators.ebox_message import Publication, invalid
from gateway.simulators.ebox_settings import WithoutConsent


class Boxes:
    """
    The boxes of one environment: every valid number has one, save the magic ones.

    `mandates` holds (represented, representative) pairs; None means that everybody has mandated everybody, except
    `magic.ENTERPRISE_WITHOUT_MANDATE`.
    """

    def __init__(
        self, *, mandates: Iterable[tuple[str, str]] | None = None, without_consent: WithoutConsent = "refuse"
    ) -> None:
        self._mandates = None if mandates is None else frozenset(mandates)
        self._without_consent = without_consent
        self._consents: dict[str, bool] = {magic.CITIZEN_NO_CONSENT: False}

    def set_consent(self, ssin: str, *, consent: bool) -> None:
        """Let a citizen give or withdraw consent; everybody else has given it."""
        self._consents[ssin] = consent

    def check_recipient(self, publication: Publication) -> None:
        """
        Check that the recipient may be published to.

        The registry's own text names the number; so do these, which is why nobody may log them.

        Raises:
            Refusal: 400 `INVALID_INPUT`.
        """
        recipient = publication.recipient_id
        if publication.recipient_type == "enterprise":
            if recipient == magic.ENTERPRISE_INACTIVE:
                raise invalid(f"{recipient} is no active enterprise")
            return
        refuses = self._without_consent == "refuse" and not self._consents.get(recipient, True)
        if recipient == magic.CITIZEN_REFUSED or refuses:
            raise invalid(f"{recipient} cannot receive messages")

    def is_unused(self, recipient: str) -> bool:
        """Whether the recipient has never opened the box, or may not have one."""
        return recipient in magic.WITHOUT_BOX or not self._consents.get(recipient, True)

    def preferences(self, body: object) -> list[dict[str, Any]]:
        """
        Answer `eboxPreferences/search`; boxes that do not exist are left out.

        Raises:
            Refusal: 400 `INVALID_INPUT`.
        """
        asked = body if isinstance(body, dict) else {}
        numbers = asked.get("eboxIdValueList")
        kind = (asked.get("eboxType"), asked.get("eboxIdType"))
        if kind != ("ENTERPRISE", "EnterpriseNumber") or not isinstance(numbers, list):
            raise invalid("eboxType ENTERPRISE, eboxIdType EnterpriseNumber and eboxIdValueList are expected")
        return [_preference(number) for number in map(str, numbers) if _has_box(number)]

    def consents(self, body: object) -> list[dict[str, Any]]:
        """
        Answer `citizenEboxConsents/search`.

        Raises:
            Refusal: 400 `INVALID_INPUT`.
        """
        ssins = body.get("ssins") if isinstance(body, dict) else None
        if not isinstance(ssins, list):
            raise invalid("a list ssins is expected")
        found = []
        for ssin in map(str, ssins):
            try:
                parse_ssin(ssin, allow_test=True)
            except InvalidIdentifier as error:
                raise invalid(str(error)) from error
            found.append({"ssin": ssin, "consent": self._consents.get(ssin, True), "exclusivelyEbox": False})
        return found

    def has_mandate(self, represented: str, representative: str) -> bool:
        """Whether `representative` may publish for `represented`."""
        if self._mandates is not None:
            return (represented, representative) in self._mandates
        return _is_enterprise(represented) and represented != magic.ENTERPRISE_WITHOUT_MANDATE


def _preference(number: str) -> dict[str, Any]:
    return {
        "eboxId": {"eboxType": "ENTERPRISE", "eboxIdValue": number},
        "exclusivelyEbox": number == magic.ENTERPRISE_EXCLUSIVELY_EBOX,
        "lastConnectionDate": "2026-04-19T20:00:00Z",
    }


def _has_box(number: str) -> bool:
    return _is_enterprise(number) and number not in (magic.ENTERPRISE_INACTIVE, magic.ENTERPRISE_NO_BOX)


def _is_enterprise(number: str) -> bool:
    try:
        parse_enterprise_number(number)
    except InvalidIdentifier:
        return False
    return True
