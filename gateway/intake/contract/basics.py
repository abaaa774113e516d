"""What holds for every operation, in words: the opening of the contract."""

from collections.abc import Mapping
from typing import Final

from gateway.intake.caller import ON_BEHALF_OF
from gateway.intake.contract.facts import Facts
from gateway.intake.contract.operation import Group

GROUPS: Final[Mapping[Group, str]] = {
    Group.SEND: "One call hands a letter over; from its receipt on it is the gateway's care.",
    Group.FOLLOW: "Lists, statuses and events carry no personal data.",
    Group.PROVE: "What the gateway signed about a letter, to be shown to others and verified without the gateway.",
    Group.DOSSIERS: "About whom you are handling a file, for categories that ask for it.",
    Group.ACCOUNT: "Your rights, your clock, and whom to trust.",
    Group.CONTRACT: "The same for everybody; nobody has to be registered to read it.",
}


_TEXT: Final = """\
How public bodies and their software hand letters over to {gateway}, follow them, and prove what became of them.

## Connect

HTTP/1.1 over TLS with a client certificate. One that is expired, revoked or of an authority that the gateway does not
know is refused by a TLS alert, without any HTTP answer. Certificate, revocation and registration are judged anew at
each request.

## For whom you act

A certificate names one party: a sender, or a processor that stands in the sender's registration. When a message is
handed over, its signed `Sender` says for whom; in every other request a processor names the sender in the header
`{on_behalf_of}`. You see what the certificate's profiles may see; all else is `not-found`, as if it were not there.

## Answers

JSON in UTF-8, unless an operation says otherwise. Times are UTC and end in `Z`. Every answer has an `x-correlation-id`:
yours, when you sent one of 1 to 36 letters, digits and hyphens, or a new one. Name it when you ask the operator.
Nothing but this contract may be kept by caches.

No personal number ever stands in a URL or an answer; put none into references and correlation ids.

## Problems

Whatever is refused is answered with `application/problem+json` (RFC 9457). `type` ends in a code, `detail` tells the
fix, `errors` points at each wrong field, all at once. Only a request that breaks HTTP itself is answered without one,
and its connection closed.

Trying again is safe: a message is never accepted twice. Do it after a time-out, a broken connection, or a code that may
be tried again, after a pause that grows, or as long as `Retry-After` says.

## What may change

Within version 1 nothing is taken away. Members, events, codes and parameters may be added: let pass what you do not
know. The schemas here are closed because they say exactly what this version answers."""


def basics(facts: Facts) -> str:
    """Return the text: paragraphs and headings of CommonMark."""
    return _TEXT.format(gateway=facts.gateway, on_behalf_of=ON_BEHALF_OF)
