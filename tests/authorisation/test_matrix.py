"""
Who may do what, as a generated matrix that is held against an oracle.

The oracle is a table of plain facts (`OFFICES`, `CERTIFICATES`, `DOSSIERS`) and a few short functions that say the
contract's sentence: deny unless the sender is active, the certificate is registered for the use, the profile is one of
this certificate's, the category is in the profile, each asked channel is in that authorisation and under agreement, and
the recipient rule holds. It shares no code with the policies. First the policies alone, exhaustively; then a gateway
over TLS, with a registration made from the same table.
"""

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import chain, combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.crypto.certs import spki_sha256
from gateway.domain.authority import MAY_SEND, MAY_SPEAK, Facts
from gateway.domain.ids import EnterpriseNumber, MessageId, Ssin
from gateway.domain.message import Channel, Message, PrintOptions, PrintProduct, Recipient
from gateway.domain.registration import Authorisation, Contact, Profile, RecipientRule, Sender
from gateway.stores.model import Suspension

if TYPE_CHECKING:
    from tests.plugins.house import ADDRESS, Answer, House, MakeHouse, SenderHand
else:
    from house import ADDRESS, Answer, House, MakeHouse, SenderHand

# ── The facts ──


@dataclass(frozen=True, eq=False)
class Office:
    """What one sender registered; `rights` is profile → category → (recipient rule, channels)."""

    number: str
    rights: Mapping[str, Mapping[str, tuple[str, tuple[str, ...]]]]
    agreements: tuple[str, ...] = ("ebox-citizen", "ebox-enterprise", "print")
    processors: tuple[str, ...] = ()
    active: bool = True
    suspended: bool = False
    messages_per_day: int | None = None


@dataclass(frozen=True)
class Card:
    """One certificate: whose it is (None: nobody's), how it is registered, for what, and for which profiles."""

    office: str | None
    by: str = "key"
    uses: tuple[str, ...] = ("tls", "signing")
    profiles: tuple[str, ...] | None = None
    host: str | None = None  # where it is not its own name


def number(eight_digits: int) -> str:
    return f"{eight_digits:08d}{97 - eight_digits % 97:02d}"


SOFT, STIL, DICHT = number(2_000_002), number(2_000_004), number(2_000_005)
CIT, ENT, PRT = "ebox-citizen", "ebox-enterprise", "print"
USUAL = {"burger": {"tax-assessment": ("any", (CIT, PRT))}}
OFFICES: Mapping[str, Office] = {
    "stad": Office(
        number(2_000_001),
        {
            "burger": {
                "tax-assessment": ("any", (CIT, PRT)),
                "building-permit": ("dossier", (CIT, PRT)),
                "civil-status": ("any", (PRT, ENT)),  # one of the two is not under agreement
            },
            "fiscaal": {
                "tax-assessment": ("dossier", (PRT, CIT)),
                "administrative-fine": ("any", (PRT,)),
            },
        },
        agreements=(CIT, PRT),
        processors=(SOFT, STIL, DICHT),
    ),
    "soft": Office(SOFT, {"klanten": {"tax-assessment": ("any", (PRT,))}}),
    "buur": Office(
        number(2_000_003),
        {"burger": {"tax-assessment": ("any", (CIT, ENT, PRT)), "building-permit": ("dossier", (ENT, CIT))}},
    ),
    "stil": Office(STIL, USUAL, processors=(SOFT,), suspended=True),
    "dicht": Office(DICHT, USUAL, processors=(SOFT,), active=False),
    "vol": Office(number(2_000_006), USUAL, messages_per_day=0),
}
NOBODY = number(2_000_007)  # a valid number that no file registers
CARDS: Mapping[str, Card] = {
    "stad-subject": Card("stad", by="subject"),
    "stad-renewed": Card("stad", by="subject", host="stad-subject"),  # another key under the registered subject
    "stad-key": Card("stad"),
    "stad-burger": Card("stad", profiles=("burger",)),
    "stad-fiscaal": Card("stad", by="subject", profiles=("fiscaal",)),
    "stad-tls": Card("stad", uses=("tls",)),
    "stad-sign": Card("stad", uses=("signing",)),
    "stad-dpo": Card("stad", uses=("dpo",)),
    "soft-all": Card("soft", by="subject"),
    "soft-klanten": Card("soft", profiles=("klanten",)),
    "buur": Card("buur"),
    "stil": Card("stil", by="subject"),
    "dicht": Card("dicht"),
    "vol": Card("vol"),
    "stranger": Card(None),
    "namesake": Card(None, host="stad-key"),  # the subject of one that is registered by its key
}
CATEGORIES = ("tax-assessment", "building-permit", "civil-status", "administrative-fine", "education")
UNHEARD_OF = "no-such-category"
ASKED = ((), (PRT,), (CIT,), (CIT, PRT), (ENT,), (PRT, ENT))
RECIPIENTS: Mapping[str, Mapping[str, str]] = {
    "citizen": {"ssin": "90610100155"},
    "citizen-unknown": {"ssin": "90610100254"},
    "citizen-ended": {"ssin": "90610100353"},
    "citizen-next-year": {"ssin": "90610100452"},
    "company": {"enterpriseNumber": "0406798006"},
    "company-of-neighbour": {"enterpriseNumber": "0999900150"},
    "address": {},
}
DOSSIERS = (
    ("stad", "building-permit", "citizen", "live"),
    ("stad", "building-permit", "company", "live"),
    ("stad", "building-permit", "citizen-ended", "ended"),
    ("stad", "building-permit", "citizen-next-year", "later"),
    ("stad", "tax-assessment", "citizen-unknown", "live"),
    ("stad", "administrative-fine", "citizen", "live"),
    ("buur", "building-permit", "company-of-neighbour", "live"),
    ("buur", "building-permit", "citizen-unknown", "live"),
)

# ── The oracle ──


@dataclass(frozen=True, slots=True)
class Ask:
    """One wish to send, in plain words. `known`: the recipient has a number; `live`: a dossier about it is in force."""

    party: str
    certificate_profiles: frozenset[str] | None
    profile: str
    category: str
    channels: tuple[str, ...]
    known: bool
    live: bool


Holds = Callable[[Office, Ask], bool]
SPEAKING: tuple[tuple[str, Holds], ...] = (
    ("sender-unknown", lambda o, a: a.party in (o.number, *o.processors)),
    ("sender-suspended", lambda o, _: o.active and not o.suspended),
    (
        "profile-not-authorised",
        lambda o, a: (
            a.profile in o.rights
            # A certificate limited to profiles means those of its own party, not of a sender that it acts for.
            and (a.certificate_profiles is None or (a.party == o.number and a.profile in a.certificate_profiles))
        ),
    ),
)
SENDING: tuple[tuple[str, Holds], ...] = (
    ("category-not-authorised", lambda o, a: a.category in o.rights.get(a.profile, ())),
    (
        "channel-not-contracted",
        lambda o, a: all(
            channel in o.rights[a.profile][a.category][1] and channel in o.agreements
            for channel in a.channels or o.rights[a.profile][a.category][1]
        ),
    ),
    (
        "recipient-not-authorised",
        lambda o, a: o.rights[a.profile][a.category][0] == "any" or (a.known and a.live),
    ),
)


def law(office: Office, ask: Ask, rules: Sequence[tuple[str, Holds]] = SPEAKING + SENDING) -> str | None:
    """Which rule says no first, if any does."""
    return next((code for code, holds in rules if not holds(office, ask)), None)


def is_closed(tls: str, office: Office) -> bool:
    """Whether the sender, or the party of the certificate that speaks for it, is suspended or has ended."""
    party = OFFICES[CARDS[tls].office or ""]
    return any(not each.active or each.suspended for each in (office, party))


def is_of_ended_processor(tls: str, sender: str) -> bool:
    """Whether somebody whose own registration is no longer active speaks for another sender."""
    office = CARDS[tls].office
    return office is not None and office != sender and not OFFICES[office].active


@dataclass(frozen=True)
class Letter:
    """One hand-over: the certificate of the connection, that of the signature, and what is signed."""

    tls: str
    signer: str
    sender: str
    profile: str | None
    category: str
    channels: tuple[str, ...]
    recipient: str

    @property
    def profile_meant(self) -> str | None:
        """The signed profile, or the only one of the certificate."""
        mine = CARDS[self.tls].profiles
        office = OFFICES.get(self.sender)
        usable = [each for each in office.rights if mine is None or each in mine] if office is not None else []
        return self.profile or (usable[0] if len(usable) == 1 else None)

    @property
    def signer_has_other_profiles(self) -> bool:
        """Whether the signing certificate is registered for profiles of which the signed one is none."""
        mine = CARDS[self.signer].profiles
        return mine is not None and self.profile_meant not in mine


def verdict(letter: Letter) -> str | None:
    """The code that a hand-over is refused with, or None: it is taken."""
    tls, signer = CARDS[letter.tls], CARDS[letter.signer]
    if tls.office is None or "tls" not in tls.uses:
        return "sender-unknown"
    office, party = OFFICES.get(letter.sender), OFFICES[tls.office].number
    if office is None or party not in (office.number, *office.processors):
        return "signer-mismatch"
    if "signing" not in signer.uses or signer.office not in (letter.sender, tls.office):
        return "signer-mismatch"
    if is_closed(letter.tls, office):
        return "sender-suspended"
    live = (letter.sender, letter.category, letter.recipient, "live") in DOSSIERS
    profiles = frozenset(tls.profiles) if tls.profiles is not None else None
    known = letter.recipient != "address"
    profile = letter.profile_meant or "(none)"
    ask = Ask(party, profiles, profile, letter.category, letter.channels, known, live)
    spoken = law(office, ask, SPEAKING)
    if spoken is not None or letter.signer_has_other_profiles:
        return spoken or "profile-not-authorised"
    if letter.category == UNHEARD_OF:
        return "invalid-message"
    broken = law(office, ask, SENDING)
    if broken is not None:
        return broken
    needed = {CIT: "ssin", ENT: "enterpriseNumber"}
    channels = letter.channels or office.rights[profile][letter.category][1]
    if not any(each == PRT or needed[each] in RECIPIENTS[letter.recipient] for each in channels):
        return "channel-cannot-carry"
    return "quota-exceeded" if office.messages_per_day == 0 else None


@dataclass(frozen=True)
class Reader:
    """Who asks, for whom: a certificate, and the office in `On-Behalf-Of-Enterprise-Number` (None: no header)."""

    tls: str
    on_behalf_of: str | None

    @property
    def office(self) -> str:
        return self.on_behalf_of or CARDS[self.tls].office or "nobody"

    def refused_with(self) -> str | None:
        card = CARDS[self.tls]
        if card.office is None or "tls" not in card.uses:
            return "sender-unknown"
        office, party = OFFICES.get(self.office), OFFICES[card.office].number
        if office is None or party not in (office.number, *office.processors):
            return "sender-unknown"
        return "sender-suspended" if is_closed(self.tls, office) else None

    def has(self, profile: str) -> bool:
        mine = CARDS[self.tls].profiles
        return mine is None or profile in mine

    def categories(self) -> set[str]:
        rights = OFFICES[self.office].rights
        return {category for profile in rights if self.has(profile) for category in rights[profile]}


STATUS = {
    None: 201,
    "sender-unknown": 403,
    "sender-suspended": 403,
    "signer-mismatch": 403,
    "profile-not-authorised": 403,
    "category-not-authorised": 403,
    "channel-not-contracted": 403,
    "recipient-not-authorised": 403,
    "invalid-message": 422,
    "channel-cannot-carry": 422,
    "quota-exceeded": 429,
    "not-found": 404,
}


def covering(strength: int, **dimensions: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows among which every combination of values of any `strength` dimensions stands at least once."""
    choose = random.Random(7)
    chosen = list(combinations(sorted(dimensions), strength))
    # A dict keeps its order, so that the rows are the same ones in every run.
    missing = dict.fromkeys(
        tuple(zip(names, values, strict=True))
        for names in chosen
        for values in product(*(dimensions[name] for name in names))
    )
    rows = []

    def held(row: dict[str, Any]) -> list[Any]:
        return [tuple((name, row[name]) for name in names) for names in chosen]

    while missing:
        wanted = dict(next(iter(missing)))
        tries = [{name: choose.choice(values) for name, values in dimensions.items()} | wanted for _ in range(20)]
        best = max(tries, key=lambda row: sum(each in missing for each in held(row)))
        for each in held(best):
            missing.pop(each, None)
        rows.append(best)
    return rows


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Return a writer to the terminal."""

    def write(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}\n")

    return write


# ── The policies alone ──

ME, PROCESSOR, STRANGER = number(3_000_001), number(3_000_002), number(3_000_003)
SUBSETS = tuple(chain.from_iterable(combinations((CIT, ENT, PRT), size) for size in range(4)))


def speaking() -> Iterator[tuple[Office, Ask]]:
    """Every way to be somebody, over the rights that matter most."""
    offices = [
        Office(
            ME,
            {"p": {"tax-assessment": (rule, granted)} if has_right else {}, "q": {"education": ("any", (PRT,))}},
            agreements=agreed,
            processors=(PROCESSOR,),
            active=active,
            suspended=suspended,
        )
        for active, suspended, has_right, rule, granted, agreed in product(
            (True, False), (True, False), (True, False), ("any", "dossier"), ((CIT, PRT), (PRT,)), ((CIT, PRT), (PRT,))
        )
    ]
    held = (None, frozenset({"p"}), frozenset({"q"}), frozenset({"p", "q"}), frozenset[str]())
    asks = [
        Ask(party, profiles, profile, "tax-assessment", channels, known, live)
        for party, profiles, profile, channels, known, live in product(
            (ME, PROCESSOR, STRANGER), held, ("p", "q", "x"), ((), (PRT,), (CIT, PRT)), (True, False), (True, False)
        )
    ]
    return product(offices, asks)


def sending() -> Iterator[tuple[Office, Ask]]:
    """Every set of channels, asked, granted and agreed, over every recipient, category and profile."""
    offices = [
        Office(
            ME,
            {
                "p": {"tax-assessment": (rule, granted), "education": ("any", (PRT,))},
                "q": {"tax-assessment": ("dossier", (PRT,))},
            },
            agreements=agreed,
        )
        for rule, granted, agreed in product(("any", "dossier"), SUBSETS, SUBSETS)
    ]
    asks = [
        Ask(ME, None, profile, category, channels, known, live)
        for profile, category, channels, known, live in product(
            ("p", "q", "x"), ("tax-assessment", "education", "civil-status"), SUBSETS, (True, False), (True, False)
        )
    ]
    return product(offices, asks)


def domain_sender(office: Office) -> Sender:
    return Sender(
        enterprise_number=EnterpriseNumber(office.number),
        name="Stad",
        contact=Contact(dpo="d", technical="t", security="s", public="p"),
        active=office.active,
        agreements={Channel(each): date(2026, 1, 1) for each in office.agreements},
        certificates=(),
        processors=frozenset(EnterpriseNumber(each) for each in office.processors),
        profiles={
            profile: Profile(
                id=profile,
                display_name=profile,
                authorisations={
                    category: Authorisation(
                        category=category,
                        channels=tuple(Channel(each) for each in channels),
                        recipients=RecipientRule(rule),
                        legal_basis="art. 1",
                        retention=timedelta(days=1),
                    )
                    for category, (rule, channels) in rights.items()
                },
            )
            for profile, rights in office.rights.items()
        },
    )


@cache
def domain_message(profile: str, category: str, asked: tuple[str, ...], recipient: str) -> Message:
    return Message(
        gateway="gateway.test",
        reference="r-1",
        created_at=datetime(2026, 11, 22, tzinfo=UTC),
        sender=EnterpriseNumber(ME),
        profile=profile,
        category=category,
        purpose="Test",
        recipient=domain_recipient(recipient),
        subject="Brief",
        language="nl",
        channels=tuple(Channel(each) for each in asked),
        documents=(),
    )


def domain_recipient(name: str) -> Recipient:
    found = RECIPIENTS[name]
    return Recipient(
        ssin=Ssin(found["ssin"]) if "ssin" in found else None,
        enterprise_number=EnterpriseNumber(found["enterpriseNumber"]) if "enterpriseNumber" in found else None,
        address=ADDRESS,
    )


def decided(sender: Sender, office: Office, ask: Ask, recipient: str) -> str | None:
    facts = Facts(
        party=EnterpriseNumber(ask.party),
        certificate_profiles=ask.certificate_profiles,
        sender=sender,
        suspended=office.suspended,
        profile_id=ask.profile,
        message=domain_message(ask.profile, ask.category, ask.channels, recipient),
        signer_profiles=None,
        live_dossier=ask.live,
    )
    denial = MAY_SPEAK.check(facts) or MAY_SEND.check(facts)
    return str(denial.rule) if denial is not None else None


def test_the_policies_agree_with_the_oracle_on_every_combination(tell: Callable[[str], None]) -> None:
    senders: dict[Office, Sender] = {}
    outcomes: Counter[str | None] = Counter()
    for office, ask in chain(speaking(), sending()):
        if office not in senders:
            senders[office] = domain_sender(office)
        expected = law(office, ask)
        for recipient in ("citizen", "company") if ask.known else ("address",):
            found = decided(senders[office], office, ask, recipient)
            assert found == expected, (office, ask, recipient)
            outcomes[found] += 1
    assert set(outcomes) == {None, *(code for code, _ in SPEAKING + SENDING)}
    assert min(outcomes.values()) >= 900, outcomes
    assert outcomes.total() >= 100_000
    tell(f"authorisation matrix, policies: {outcomes.total():,} combinations, {outcomes[None]:,} of them permitted")


# ── A gateway over TLS ──

MESSAGES = "/api/v1/messages"
TARGETS = (("stad", "burger"), ("stad", "fiscaal"), ("soft", "klanten"), ("buur", "burger"), ("stil", "burger"))
NO_TARGET = ("nobody", "burger")  # an id that no message has
# About one message: method, what stands behind its path, and the status for an own letter that is not printed yet.
ONE: Mapping[str, tuple[str, str, int]] = {
    "message": ("GET", "", 200),
    "evidence": ("GET", "/evidence", 200),
    "statement": ("GET", "/evidence/1", 200),
    "kit": ("GET", "/kit", 200),
    "bpost-status": ("GET", "/bpost-status", 200),
    "bpost-attestation": ("GET", "/bpost-attestation", 404),
    "cancel": ("POST", "/cancel", 200),
}
MANY = ("list", "statusRequest", "events", "whoami", "dossiers", "dossiers/search", "dossiers/end")


def issue(folder: Path, certs: Path, certs_maker: Any) -> None:
    """Write a certificate and key for every card."""
    (folder / "ca.pem").write_bytes((certs / "ca.pem").read_bytes())
    chain_pem = (certs / "clients-ca.pem").read_bytes()
    authority = certs_maker.Authority(
        certificate=x509.load_pem_x509_certificate(chain_pem),
        key=load_pem_private_key((certs / "clients-ca.key").read_bytes(), None),
    )
    now = datetime.now(UTC).replace(microsecond=0)
    for name, card in CARDS.items():
        leaf, key = certs_maker._leaf(
            certs_maker._subject("Matrix", f"{card.host or name}.example"),
            authority,
            (now - timedelta(hours=1), now + timedelta(days=30)),
            rsa_bits=None,
            purposes=(certs_maker.CLIENT_AUTH,),
        )
        (folder / f"{name}.pem").write_bytes(certs_maker._pem(leaf, authority.certificate))
        (folder / f"{name}.key").write_bytes(certs_maker._key_pem(key))


def write_registration(folder: Path, cards: Path) -> None:
    """Write the file of every office."""
    for name, office in OFFICES.items():
        values: dict[str, Any] = {
            "enterprise_number": office.number,
            "name": name,
            "contact": dict.fromkeys(("dpo", "technical", "security", "public"), f"{name}@example.be"),
            "active": office.active,
            "agreements": dict.fromkeys(office.agreements, "2026-01-10"),
            "return_address": [name, "Markt 1", "9000 Gent"],
            "certificates": [
                registered(each, card, cards)
                for each, card in CARDS.items()
                if card.office == name and (card.host is None or card.by == "key")
            ],
            "processors": [{"enterprise_number": each} for each in office.processors],
            "profiles": [
                {
                    "id": profile,
                    "display_name": profile,
                    "hold": "PT0S",
                    "authorisations": [
                        {
                            "category": category,
                            "channels": list(channels),
                            "recipients": rule,
                            "legal_basis": "art. 1",
                            "retention": "P90D",
                            "ebox": {
                                kind: {"message_type": f"LETTER_{kind.upper()}", "application": "matrix"}
                                for kind in ("citizen", "enterprise")
                            },
                        }
                        for category, (rule, channels) in rights.items()
                    ],
                }
                for profile, rights in office.rights.items()
            ],
        }
        if office.messages_per_day is not None:
            values["quota"] = {"messages_per_day": office.messages_per_day}
        (folder / f"{office.number}.toml").write_text(tomli_w.dumps(values))


def registered(name: str, card: Card, cards: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"uses": list(card.uses)}
    if card.by == "key":
        entry["spki_sha256"] = spki_sha256(x509.load_pem_x509_certificate((cards / f"{name}.pem").read_bytes()))
    else:
        entry |= {"subject": f"CN={name}.example,O=Matrix,C=BE", "issuer_ca": "dev-clients"}
    return entry | ({"profiles": list(card.profiles)} if card.profiles is not None else {})


@dataclass
class Town:
    """A gateway in which everybody of the table is registered, with one letter for each of `TARGETS`."""

    house: House
    hands: Mapping[str, SenderHand]
    letters: dict[tuple[str, str], str] = field(default_factory=dict)
    dossiers: dict[str, set[str]] = field(default_factory=dict)
    first_dossier: dict[str, str] = field(default_factory=dict)

    async def hand_over(self, letter: Letter, query: str = "") -> Answer:
        hand = self.hands[letter.tls]
        office = OFFICES.get(letter.sender)
        message = hand.message(
            sender=EnterpriseNumber(office.number if office is not None else NOBODY),
            profile=letter.profile,
            category=letter.category,
            channels=tuple(Channel(each) for each in letter.channels),
            recipient=domain_recipient(letter.recipient),
        )
        return await hand.post(
            hand.parts(message, manifest=self.hands[letter.signer].sign(message)), path=MESSAGES + query
        )

    async def ask(self, reader: Reader, method: str, path: str, body: Any = None) -> Answer:
        hand, headers = self.hands[reader.tls], {}
        if reader.on_behalf_of is not None:
            office = OFFICES.get(reader.on_behalf_of)
            headers["On-Behalf-Of-Enterprise-Number"] = office.number if office is not None else NOBODY
        if body is None:
            return await hand.call(method, path, headers=headers)
        headers["Content-Type"] = "application/json"
        return await hand.call(method, path, body=json.dumps(body).encode(), headers=headers)

    async def register(self, reader: Reader, category: str, recipient: str, first_day: date) -> Answer:
        wish = {"recipient": RECIPIENTS[recipient], "category": category, "from": first_day.isoformat()}
        return await self.ask(reader, "POST", "/api/v1/dossiers", {"dossiers": [wish]})

    def id_of(self, target: tuple[str, str]) -> str:
        return self.letters.get(target, str(uuid4()))

    def seen_by(self, reader: Reader) -> set[str]:
        return {
            message_id
            for (office, profile), message_id in self.letters.items()
            if office == reader.office and reader.has(profile)
        }


@pytest.fixture
async def town(make_house: MakeHouse, certs: Path, certs_maker: Any, tmp_path: Path) -> Town:
    """A running gateway that delivers nothing, with the facts of the tables in it."""
    cards, senders = tmp_path / "cards", tmp_path / "senders"

    def write() -> None:
        cards.mkdir()
        senders.mkdir()
        issue(cards, certs, certs_maker)
        write_registration(senders, cards)

    await asyncio.to_thread(write)
    house = await make_house(lambda values: values["gateway"].update(senders=str(senders)), parts=["intake"])
    house.certs = cards
    town = Town(house, {name: await house.sender(name) for name in CARDS})
    await open_dossiers(town)
    await send_letters(town)
    for office in OFFICES.values():
        if office.suspended:
            suspension = Suspension(sender=EnterpriseNumber(office.number), at=datetime.now(UTC), reason="test")
            assert await house.gateway.ledger.suspend(suspension, ())
    await house.gateway.ledger.number_events(at=datetime.now(UTC), limit=1_000)
    return town


async def open_dossiers(town: Town) -> None:
    whole = {"stad": "stad-subject", "buur": "buur"}
    today = datetime.now(UTC).date()
    for office, category, recipient, state in DOSSIERS:
        reader = Reader(whole[office], None)
        first_day = today + timedelta(days=365) if state == "later" else today - timedelta(days=30)
        answer = await town.register(reader, category, recipient, first_day)
        assert answer.status == 200, answer.body
        (found,) = answer.json["dossiers"]
        town.dossiers.setdefault(office, set()).add(found["dossierId"])
        town.first_dossier.setdefault(office, found["dossierId"])
        if state == "ended":
            answer = await town.ask(reader, "POST", "/api/v1/dossiers/end", {"dossiers": [found]})
            assert answer.json["dossiers"][0]["outcome"] == "ended"


async def send_letters(town: Town) -> None:
    whole = {"stad": "stad-subject", "soft": "soft-all", "buur": "buur", "stil": "stil"}
    for office, profile in TARGETS:
        category = "administrative-fine" if profile == "fiscaal" else "tax-assessment"
        hand = town.hands[whole[office]]
        town.letters[office, profile] = await hand.accepted(
            sender=EnterpriseNumber(OFFICES[office].number),
            profile=profile,
            category=category,
            channels=(Channel.PRINT,),
            print_options=PrintOptions(product=PrintProduct.REGISTERED),
        )


# ── Handing over ──

RIGHTS: Mapping[str, Any] = {
    "profile": ("burger", "fiscaal", "unheard-of", None),
    "category": (*CATEGORIES, UNHEARD_OF),
    "channels": ASKED,
    "recipient": tuple(RECIPIENTS),
}


ABLE = (  # connection, signature, sender
    ("stad-subject", "stad-subject", "stad"),
    ("stad-renewed", "stad-sign", "stad"),
    ("stad-burger", "stad-subject", "stad"),
    ("stad-fiscaal", "stad-key", "stad"),
    ("stad-tls", "stad-renewed", "stad"),
    ("soft-all", "soft-all", "stad"),
    ("soft-all", "stad-sign", "stad"),
    ("buur", "buur", "buur"),
    ("vol", "vol", "vol"),
)


def letters() -> list[Letter]:
    """Every pair of identities; every combination of rights for one who may speak; all of it in pairs."""
    cards, senders = tuple(CARDS), (*OFFICES, "nobody")
    plain: dict[str, Any] = {"category": "tax-assessment", "channels": (PRT,), "recipient": "citizen"}
    identities = covering(2, tls=cards, signer=cards, sender=senders, profile=("burger", "fiscaal", "klanten", None))
    every_right: dict[str, Any] = {**RIGHTS, "profile": ("burger",)}
    rights = [(ABLE[0], row) for row in covering(len(RIGHTS), **every_right)]
    rights += [(row.pop("able"), row) for row in covering(2, able=ABLE, **RIGHTS)]
    found = [
        *(Letter(**row, **plain) for row in identities),
        *(Letter(tls, signer, sender, **row) for (tls, signer, sender), row in rights),
        *(Letter(**row) for row in covering(2, tls=cards, signer=cards, sender=senders, **RIGHTS)),
        *(Letter(name, name, card.office or "stad", None, **plain) for name, card in CARDS.items()),
        *(Letter("vol", "vol", "vol", "burger", "tax-assessment", (PRT,), each) for each in RECIPIENTS),
    ]
    return list(dict.fromkeys(found))


def only_the_signer_objects(letter: Letter) -> bool:
    """Whether the profiles of the signing certificate alone stand in the way."""
    unlimited = {"stad": "stad-sign", "soft": "soft-all"}.get(CARDS[letter.signer].office or "")
    if unlimited is None or verdict(letter) != "profile-not-authorised":
        return False
    return verdict(replace(letter, signer=unlimited)) != "profile-not-authorised"


def closed_and_nameless(letter: Letter) -> bool:
    """Whether a sender that may send nothing at all did not say as which profile."""
    return letter.profile_meant is None and verdict(letter) == "sender-suspended"


def is_left_to_a_test_below(letter: Letter) -> bool:
    ended = is_of_ended_processor(letter.tls, letter.sender)
    return ended or only_the_signer_objects(letter) or closed_and_nameless(letter)


def told(answer: Answer) -> str | None:
    """Return the code of the first refusal in a dry run, or of the answer itself."""
    if answer.status != 200:
        assert answer.status == 403
        return answer.code
    codes = [each["code"] for each in answer.json["findings"]]
    assert answer.json["wouldBeAccepted"] is (not codes)
    return codes[0] if codes else None


async def test_hand_overs_are_taken_and_refused_as_the_oracle_says(town: Town, tell: Callable[[str], None]) -> None:
    rows = [each for each in letters() if not is_left_to_a_test_below(each)]
    by_code: dict[str | None, list[Letter]] = {}
    for letter in rows:
        by_code.setdefault(verdict(letter), []).append(letter)
        assert told(await town.hand_over(letter, "?mode=check")) == verdict(letter), letter
    sample = [(code, each) for code, found in by_code.items() for each in found[:: max(1, len(found) // 12)]]
    for code, letter in sample:
        answer = await town.hand_over(letter)
        assert (answer.status, answer.code if code else None) == (STATUS[code], code), letter
    assert by_code.keys() == STATUS.keys() - {"not-found"}
    assert min(map(len, by_code.values())) >= 4
    assert len(rows) >= 700
    assert len(sample) >= 100
    tell(
        f"authorisation matrix, hand-overs: {len(rows)} dry runs and {len(sample)} letters over TLS, "
        f"{len(by_code[None])} dry runs of them permitted"
    )


@pytest.mark.parametrize(
    "letter",
    [
        Letter("stad-subject", "stad-burger", "stad", "fiscaal", "administrative-fine", (PRT,), "citizen"),
        Letter("soft-all", "stad-burger", "stad", "fiscaal", "administrative-fine", (PRT,), "citizen"),
    ],
    ids=["own-connection", "connection-of-processor"],
)
async def test_a_certificate_signs_only_for_its_profiles(town: Town, letter: Letter) -> None:
    assert only_the_signer_objects(letter)
    assert (await town.hand_over(letter)).status == 403


async def test_a_closed_sender_is_told_so_whatever_else_is_wrong(town: Town) -> None:
    letter = Letter("soft-klanten", "soft-all", "dicht", None, "tax-assessment", (PRT,), "citizen")
    assert closed_and_nameless(letter)
    assert (await town.hand_over(letter)).code == "sender-suspended"


# ── Everything else ──


@dataclass(frozen=True)
class Wish:
    """One request that is no hand-over; `target` is the letter, or for dossiers the owner, that it is about."""

    reader: Reader
    verb: str
    target: tuple[str, str]


def has_target(verb: str) -> bool:
    return verb in ONE or verb.startswith("dossiers")


def wishes() -> list[Wish]:
    """Every verb on every target for those who may ask, or whose sender is closed; in pairs for all others."""
    targets, verbs = (*TARGETS, NO_TARGET), (*ONE, *MANY)
    behalf = (None, *OFFICES, "nobody")
    found = []
    for reader in (Reader(tls, office) for tls in CARDS for office in behalf):
        if reader.refused_with() is None:
            found += [
                Wish(reader, verb, target)
                for verb in verbs
                for target in targets
                if has_target(verb) or target == NO_TARGET
            ]
        elif reader.refused_with() == "sender-suspended":
            found += [Wish(reader, verb, ("stil", "burger")) for verb in verbs]
    for row in covering(2, tls=tuple(CARDS), behalf=behalf, verb=verbs, target=targets):
        found.append(Wish(Reader(row["tls"], row["behalf"]), row["verb"], row["target"]))
    able = [each for each in found if not is_of_ended_processor(each.reader.tls, each.reader.office)]
    return list(dict.fromkeys(able))


def request_of(town: Town, wish: Wish) -> tuple[str, str, Any]:
    """Return method, path and body."""
    if wish.verb in ONE:
        method, tail, _ = ONE[wish.verb]
        return method, f"{MESSAGES}/{town.id_of(wish.target)}{tail}", None
    match wish.verb:
        case "list":
            return "GET", f"{MESSAGES}?limit=500", None
        case "statusRequest":
            asked = [*town.letters.values(), str(uuid4())]
            return "POST", "/api/v1/statusRequest", {"messages": [{"messageId": each} for each in asked]}
        case "events":
            return "GET", "/api/v1/events?limit=500", None
        case "dossiers":
            wanted = {"recipient": RECIPIENTS["citizen"], "category": category_of(wish), "from": "2026-01-01"}
            return "POST", "/api/v1/dossiers", {"dossiers": [wanted]}
        case "dossiers/search":
            about = [each for each in RECIPIENTS.values() if each]
            return "POST", "/api/v1/dossiers/search", {"recipients": about}
        case "dossiers/end":
            ended = town.first_dossier.get(wish.target[0], str(uuid4()))
            return "POST", "/api/v1/dossiers/end", {"dossiers": [{"dossierId": ended}]}
        case _:
            return "GET", f"/api/v1/{wish.verb}", None


def category_of(wish: Wish) -> str:
    return CATEGORIES[(*TARGETS, NO_TARGET).index(wish.target) % len(CATEGORIES)]


def is_own(town: Town, wish: Wish) -> bool:
    """Whether the request is about something that the reader may see or change."""
    if wish.verb in ONE:
        return town.letters.get(wish.target) in town.seen_by(wish.reader)
    return wish.target[0] == wish.reader.office and wish.target[0] in town.first_dossier


async def fulfilled(town: Town, wish: Wish, not_found: set[str]) -> None:
    """Make the request and hold its answer against the oracle; the texts of 404 for what is not own are collected."""
    reader, refused = wish.reader, wish.reader.refused_with()
    answer = await town.ask(reader, *request_of(town, wish))
    if refused is not None:
        assert (answer.status, answer.code) == (403, refused), wish
        return
    if wish.verb in ONE:
        assert answer.status == (ONE[wish.verb][2] if is_own(town, wish) else 404), wish
        if not is_own(town, wish):
            not_found.add(answer.json["detail"])
        return
    if wish.verb == "dossiers":
        allowed = category_of(wish) in reader.categories()
        assert answer.status == (200 if allowed else 422), wish
        if allowed:
            town.dossiers.setdefault(reader.office, set()).add(answer.json["dossiers"][0]["dossierId"])
        return
    assert answer.status == 200, wish
    told_of, seen = answer.json, town.seen_by(reader)
    match wish.verb:
        case "list":
            assert {each["messageId"] for each in told_of["messages"]} == seen, wish
        case "statusRequest":
            assert {each["messageId"] for each in told_of["messages"]} == seen, wish
            assert len(told_of["unknown"]) == len(town.letters) + 1 - len(seen), wish
        case "events":
            assert {each["messageId"] for each in told_of["events"]} == seen, wish
        case "whoami":
            rights = OFFICES[reader.office].rights
            assert {each["id"] for each in told_of["profiles"]} == {each for each in rights if reader.has(each)}, wish
        case "dossiers/search":
            found = {each["dossierId"] for result in told_of["results"] for each in result["dossiers"]}
            own = town.dossiers.get(reader.office, set())
            # What the profiles of a certificate mean for dossiers is a test of its own, below.
            assert found == own if CARDS[reader.tls].profiles is None else found <= own, wish
        case _:
            outcome = "ended" if is_own(town, wish) else "not-found"
            assert told_of["dossiers"][0]["outcome"] == outcome, wish


async def states(town: Town) -> set[str]:
    """Return the states that letters are in."""
    ledger = town.house.gateway.ledger
    found = [await ledger.message(MessageId(UUID(each))) for each in town.letters.values()]
    return {str(each.status) for each in found if each is not None}


async def dossiers_in_force(town: Town) -> set[str]:
    found = set()
    for tls in ("stad-subject", "buur"):
        about = [each for each in RECIPIENTS.values() if each]
        answer = await town.ask(Reader(tls, None), "POST", "/api/v1/dossiers/search", {"recipients": about})
        found |= {
            each["dossierId"] for result in answer.json["results"] for each in result["dossiers"] if each["inForce"]
        }
    return found


async def test_everybody_reads_and_changes_only_what_is_theirs(town: Town, tell: Callable[[str], None]) -> None:
    every = [each for each in wishes() if each.verb != "dossiers/end" or CARDS[each.reader.tls].profiles is None]
    last = [
        each
        for each in every
        if each.verb in {"cancel", "dossiers/end"} and each.reader.refused_with() is None and is_own(town, each)
    ]
    not_found: set[str] = set()
    for wish in every:
        if wish not in last:
            await fulfilled(town, wish, not_found)
    assert await states(town) == {"accepted"}
    assert set(town.first_dossier.values()) <= await dossiers_in_force(town)
    for wish in last:
        await fulfilled(town, wish, not_found)
    assert await states(town) == {"accepted", "cancelled"}  # that of the suspended sender is where it was
    assert not set(town.first_dossier.values()) & await dossiers_in_force(town)
    assert len(not_found) == 1, "an answer tells whether the letter of somebody else exists"
    outcomes = Counter(each.reader.refused_with() for each in every)
    assert min(outcomes[code] for code in (None, "sender-unknown", "sender-suspended")) >= 50
    assert len(every) >= 1_000
    tell(f"authorisation matrix, other requests: {len(every):,} over TLS, {outcomes[None]} of them by who may ask")


@pytest.mark.parametrize("verb", ["dossiers/search", "dossiers/end"])
async def test_a_certificate_reaches_only_dossiers_of_its_profiles(town: Town, verb: str) -> None:
    reader = Reader("stad-fiscaal", None)
    assert "building-permit" not in reader.categories()
    answer = await town.ask(reader, *request_of(town, Wish(reader, verb, TARGETS[0])))
    if verb == "dossiers/search":
        found = {each["category"] for result in answer.json["results"] for each in result["dossiers"]}
        assert found <= reader.categories()
    else:
        assert answer.json["dossiers"][0]["outcome"] == "not-found"


@pytest.mark.parametrize("verb", ["send", "list"])
async def test_a_processor_that_is_no_longer_active_is_refused_for_everybody(town: Town, verb: str) -> None:
    if verb == "send":
        answer = await town.hand_over(Letter("dicht", "dicht", "stad", "burger", "tax-assessment", (PRT,), "citizen"))
    else:
        answer = await town.ask(Reader("dicht", "stad"), "GET", MESSAGES)
    assert answer.status == 403
