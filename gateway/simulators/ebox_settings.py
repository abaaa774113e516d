"""What an e-Box simulator is set up with: its paths, the combinations it knows, and the names the demo uses."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

DEMO_CLIENT_ID: Final = "document-gateway-dev"
DEMO_ORGANISATION: Final = "0316380841"
DEMO_APPLICATION: Final = "document-gateway"
DEMO_MESSAGE_TYPE_CITIZEN: Final = "LETTER_CITIZEN"
DEMO_MESSAGE_TYPE_ENTERPRISE: Final = "LETTER_ENTERPRISE"

RecipientType = Literal["enterprise", "citizen"]
# What publishing to a citizen without consent gives; the registry's own answer is not documented.
WithoutConsent = Literal["refuse", "no-digital-user"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Triple:
    """A configured combination, for one kind of recipient; `organisation` None stands for every enterprise number."""

    organisation: str | None
    application: str
    message_type: str
    recipient_type: RecipientType
    validity: timedelta = timedelta(days=730)

    def covers(self, organisation: str, application: str, message_type: str, recipient_type: str) -> bool:
        """Whether a message of this sender, application, type and kind of recipient may be published."""
        return (
            self.organisation in (None, organisation)
            and self.application == application
            and self.message_type == message_type
            and self.recipient_type == recipient_type
        )


DEMO_TRIPLES: Final = (
    Triple(
        organisation=None,
        application=DEMO_APPLICATION,
        message_type=DEMO_MESSAGE_TYPE_CITIZEN,
        recipient_type="citizen",
    ),
    Triple(
        organisation=None,
        application=DEMO_APPLICATION,
        message_type=DEMO_MESSAGE_TYPE_ENTERPRISE,
        recipient_type="enterprise",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EboxPaths:
    """Where the services live below the origin; token, registries and federation as at the NSSO."""

    token: str = "/REST/oauth/v5/token"  # noqa: S105 - a path
    registry_v2: str = "/REST/ebox/enterprise/messageRegistry/v2"
    registry_v3: str = "/REST/ebox/enterprise/messageRegistry/v3"
    federation: str = "/REST/ebox/enterprise/federation/v1"
    partition: str = "/REST/ebox/enterprise/partition/v1"
