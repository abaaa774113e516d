"""
`gateway demo`: four real letters through a real gateway, and an account of what became of them.

Exit code 0 only when everything that the account says held.
"""

import argparse
import asyncio
import hashlib
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

import aiohttp
import tomli_w
from prometheus_client.parser import text_string_to_metric_families

from gateway.client.answers import MessageState
from gateway.client.api import FollowRules, GatewayClient, Sent
from gateway.client.body import LetterBody
from gateway.client.letter import Document, Letter, describe, message_of, new_reference
from gateway.client.problems import CertificateRefused, ClientError, Problem
from gateway.client.sender import SenderProfile, load_sender
from gateway.client.transport import CallTiming, Transport, new_correlation_id
from gateway.crypto.manifest import write_message
from gateway.crypto.signing import sign_message
from gateway.demo.account import Account
from gateway.demo.environment import DemoFailed, Environment
from gateway.demo.letters import letter_pdf
from gateway.demo.recipient import fetch_first_document, read_cover
from gateway.domain.ids import EnterpriseNumber, Ssin
from gateway.domain.message import Channel, PostalAddress, Recipient
from gateway.simulators.magic import CITIZEN_FINE, CITIZEN_NO_BOX

GATEWAY: Final = "gateway.dev.example"
COMPANY: Final = EnterpriseNumber("0316380841")
_FOLLOW: Final = FollowRules(first_wait_s=0.1, longest_wait_s=0.5)
_ARRIVES_WITHIN_S: Final = 90.0
_BROKEN_OFF: Final = 130  # as shells tell of a program that a signal ended


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSender:
    """A registered sender of the demonstration, with its certificate's name in the state folder."""

    name: str
    enterprise_number: EnterpriseNumber
    profile: str
    categories: tuple[str, ...]


SENDERS: Final = (
    DemoSender(
        name="gemeente",
        enterprise_number=EnterpriseNumber("0406798006"),
        profile="burgerzaken",
        categories=("tax-assessment", "building-permit"),
    ),
    DemoSender(
        name="belasting",
        enterprise_number=EnterpriseNumber("0566988259"),
        profile="personenbelasting",
        categories=("tax-assessment",),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One of the demonstration's letters."""

    title: str
    recipient: Recipient
    channels: tuple[Channel, ...]


def _at(name: str, street: str, number: str) -> PostalAddress:
    return PostalAddress(
        name=name, street=street, house_number=number, postcode="9000", municipality="Gent", country="BE"
    )


SENDINGS: Final = (
    Sending(
        title="to a citizen's e-Box",
        recipient=Recipient(ssin=Ssin(CITIZEN_FINE), address=_at("Jan Peeters", "Kerkstraat", "12")),
        channels=(Channel.EBOX_CITIZEN, Channel.PRINT),
    ),
    Sending(
        title="to a company's e-Box",
        recipient=Recipient(enterprise_number=COMPANY, address=_at("Voorbeeld nv", "Havenlaan", "88")),
        channels=(Channel.EBOX_ENTERPRISE, Channel.PRINT),
    ),
    Sending(
        title="on paper, to an address",
        recipient=Recipient(address=_at("Ann Janssens", "Veldstraat", "7")),
        channels=(Channel.PRINT,),
    ),
    Sending(
        title="to a citizen without an e-Box",
        recipient=Recipient(ssin=Ssin(CITIZEN_NO_BOX), address=_at("Emma Claes", "Coupure", "101")),
        channels=(Channel.EBOX_CITIZEN, Channel.PRINT),
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--state", type=Path, default=Path("state/demo"), help="folder for everything it makes")
    parser.add_argument("--pdf", type=Path, metavar="FILE", help="send this PDF instead of a made-up letter")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument(
        "--json", action="store_true", help="with --keep: send nothing; print one line of JSON when all is ready"
    )


async def run(arguments: argparse.Namespace) -> int:
    """
    Run the demonstration; return the exit code, 130 when a signal broke it off. Nothing that it started is left.

    Raises:
        DemoFailed: it cannot begin, or not go on.
    """
    work = asyncio.create_task(_demonstrate(arguments))
    _on_signal(work.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if not work.cancelled():
            raise
        return _BROKEN_OFF


async def _demonstrate(arguments: argparse.Namespace) -> int:
    if arguments.json and not arguments.keep:
        raise DemoFailed("--json goes with --keep")
    pdf = await asyncio.to_thread(_read_pdf, arguments.pdf) if arguments.pdf is not None else _made_up_letter()
    account = Account(sys.stderr if arguments.json else sys.stdout)
    if not arguments.json:
        account.say("Setting up: certificates, stores, a simulated e-Box and print house, the gateway …")
    async with Environment(arguments.state) as environment:
        if arguments.json:
            print(json.dumps(_driver_view(environment)), flush=True)  # noqa: T201 -- the answer of the command
        else:
            await Story(environment, account, pdf).tell()
        if arguments.keep:
            if not arguments.json:
                account.say("\nEverything keeps running. Ctrl-C ends it.")
            await _until_told()
    return 0 if account.held else 1


async def _until_told() -> None:
    told = asyncio.Event()
    _on_signal(told.set)
    await told.wait()


def _on_signal(then: Callable[[], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, then)


def _read_pdf(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DemoFailed(f"{file} cannot be read: {error.strerror}") from error


def _made_up_letter() -> bytes:
    return letter_pdf(
        "Uw aanslagbiljet 2026",
        [
            "Geachte heer, mevrouw,",
            "Hierbij ontvangt u uw aanslagbiljet voor het jaar 2026.\nU betaalt dit jaar 123,45 euro.",
            "Met vriendelijke groeten,\nGemeente Voorbeeld",
        ],
    )


def _driver_view(environment: Environment) -> dict[str, Any]:
    """Return what a program needs to drive this gateway: addresses, files and numbers."""
    addresses, certs = environment.addresses, environment.certs
    return {
        "gateway": GATEWAY,
        "sender_api": addresses.sender_api,
        "portal": addresses.portal,
        "ops": addresses.ops,
        "ca": str(certs / "ca.pem"),
        "receipt_cert": str(certs / "receipts.pem"),
        "senders": [
            {
                "enterprise_number": sender.enterprise_number,
                "cert": str(certs / f"{sender.name}.pem"),
                "key": str(certs / f"{sender.name}.key"),
                "profile": sender.profile,
                "categories": list(sender.categories),
            }
            for sender in SENDERS
        ],
        "recipients": {"citizen": CITIZEN_FINE, "citizen_without_ebox": CITIZEN_NO_BOX, "enterprise": COMPANY},
        "simulators": {"ebox": addresses.ebox, "print": addresses.print_house},
        "state": str(environment.state),
    }


def sender_profile(environment: Environment, sender: DemoSender, certificate: str | None = None) -> SenderProfile:
    """Write the sender's file into the state folder, as a sender would, and load it. Blocks."""
    name = certificate or sender.name
    certs = environment.certs
    file = environment.state / f"sender-{name}.toml"
    values = {
        "base_url": environment.addresses.sender_api,
        "gateway": GATEWAY,
        "ca": str(certs / "ca.pem"),
        "certificate": str(certs / f"{name}.pem"),
        "key": str(certs / f"{name}.key"),
        "receipt_certificate": str(certs / "receipts.pem"),
        "enterprise_number": sender.enterprise_number,
        "profile": sender.profile,
    }
    file.write_text(tomli_w.dumps(values))
    return load_sender(file)


class Story:
    """The demonstration itself."""

    def __init__(self, environment: Environment, account: Account, pdf: bytes) -> None:
        self._environment = environment
        self._account = account
        self._pdf = pdf
        self._digest = hashlib.sha256(pdf).hexdigest()

    async def tell(self) -> None:
        """Send the letters, show what became of them, and what the gateway refuses."""
        account, addresses = self._account, self._environment.addresses
        account.chapter("The gateway is ready")
        account.fact("for senders, mutual TLS", addresses.sender_api)
        account.fact("for recipients", addresses.portal)
        account.fact("metrics and health", f"{addresses.ops}/metrics")
        account.fact("everything it made", str(self._environment.state))
        profile = await asyncio.to_thread(sender_profile, self._environment, SENDERS[0])
        async with GatewayClient(profile) as client:
            states = await self._send_all(client)
            await self._fetch_copy(states[2])
        await self._refusals(profile)
        await self._metrics()
        self._look_next()

    # ── Four letters ──

    async def _send_all(self, client: GatewayClient) -> list[MessageState]:
        account = self._account
        account.chapter("Four letters, handed over once each")
        sent: list[Sent] = []
        for sending in SENDINGS:
            started_s = monotonic()
            one = await client.send(self._letter(sending))
            took_ms = (monotonic() - started_s) * 1000
            documents = [document.sha256 for document in one.receipt.documents]
            holds = one.receipt.message_id == one.message_id and documents == [self._digest]
            account.check(sending.title, holds, f"accepted as {one.message_id}, receipt verified, {took_ms:.0f} ms")
            sent.append(one)
        again = await client.send(replace(self._letter(SENDINGS[0]), reference=sent[0].reference))
        same = again.repeated and again.receipt_jws == sent[0].receipt_jws
        account.check("the first one once more", same, "the same receipt, byte for byte; nothing is sent twice")
        account.say("\n  Waiting until each has arrived …")
        states = await asyncio.gather(*(self._arrived(client, one) for one in sent))
        account.chapter("What became of them")
        for sending, state in zip(SENDINGS, states, strict=True):
            account.timeline(sending.title, state)
        account.say()
        for sending, state, wanted in zip(SENDINGS, states, _JOURNEYS, strict=True):
            journey = tuple(f"{delivery.channel} {delivery.status}" for delivery in state.deliveries)
            account.check(sending.title, journey == wanted and state.status == "delivered", ", ".join(journey))
        await self._simulators_agree()
        return states

    def _letter(self, sending: Sending) -> Letter:
        return Letter(
            recipient=sending.recipient,
            category="tax-assessment",
            purpose="Aanslagbiljet 2026",
            subject="Uw aanslagbiljet 2026",
            documents=[Document(content=self._pdf, filename="brief.pdf")],
            channels=sending.channels,
        )

    async def _arrived(self, client: GatewayClient, sent: Sent) -> MessageState:
        state = sent.state
        async with asyncio.timeout(_ARRIVES_WITHIN_S):
            async for state in client.follow(
                sent.message_id, until=lambda found: found.status == "delivered", rules=_FOLLOW
            ):
                if state.status in ("undeliverable", "needs-decision", "returned"):
                    break
        return state

    async def _simulators_agree(self) -> None:
        addresses = self._environment.addresses
        ebox, house = await self._records(addresses.ebox), await self._records(addresses.print_house)
        digests = [document["sha256"] for kept in (*ebox, *house) for document in kept["documents"]]
        keys = [kept["key"] for kept in (*ebox, *house)]
        once = len(keys) == len(set(keys)) and digests.count(self._digest) == len(keys) == len(_ALL_JOURNEYS)
        self._account.check(
            "what the providers hold",
            once,
            f"{len(ebox)} e-Box messages, {len(house)} print jobs, each once, each whole",
        )

    async def _records(self, base: str) -> list[dict[str, Any]]:
        async with aiohttp.ClientSession() as session, session.get(f"{base}/_simulator/records") as response:
            kept: list[dict[str, Any]] = (await response.json())["kept"]
            return kept

    # ── The authentic copy ──

    async def _fetch_copy(self, state: MessageState) -> None:
        """Do what a recipient does: read the cover page that came with the letter, and go to the portal."""
        account, addresses = self._account, self._environment.addresses
        account.chapter("The recipient of the paper letter fetches it")
        async with aiohttp.ClientSession() as session:
            cover = await asyncio.to_thread(read_cover, await self._cover_page(session, state))
            account.check("a cover page went first", cover is not None, "it shows a number and a code")
            if cover is None:
                return
            account.fact("on it", f"number {cover.number}, code {cover.code}")
            fetched = await fetch_first_document(session, addresses.portal, cover)
        same = hashlib.sha256(fetched).hexdigest() == self._digest
        account.check("fetched at the portal", same, f"{len(fetched):,} bytes, SHA-256 equal to what was sent")

    async def _cover_page(self, session: aiohttp.ClientSession, state: MessageState) -> bytes:
        base = self._environment.addresses.print_house
        delivery_id = str(state.deliveries[0].delivery_id)
        job = next(kept for kept in await self._records(base) if kept["key"].strip('"') == delivery_id)
        async with session.get(f"{base}/_simulator/documents/{job['documents'][0]['sha256']}") as response:
            return await response.read()

    # ── What the gateway refuses ──

    async def _refusals(self, profile: SenderProfile) -> None:
        account, environment = self._account, self._environment
        account.chapter("What the gateway refuses")
        letter = self._letter(SENDINGS[0])
        stranger = await asyncio.to_thread(sender_profile, environment, SENDERS[0], "unknown-sender")
        foreign = await asyncio.to_thread(sender_profile, environment, SENDERS[0], "other-ca")
        other = replace(letter, category="administrative-fine")
        undossiered = replace(letter, category="building-permit")
        refused = self._refused
        await refused("a category it may not send", "category-not-authorised", self._attempt(profile, other))
        await refused("a person without a dossier", "recipient-not-authorised", self._attempt(profile, undossiered))
        await refused("an unregistered certificate", "sender-unknown", self._attempt(stranger, letter))
        await refused("a text changed after signing", "signature-invalid", self._tampered(profile, letter))
        await refused("a certificate of another CA", "(TLS)", self._attempt(foreign, letter))

    async def _attempt(self, profile: SenderProfile, letter: Letter) -> None:
        async with GatewayClient(profile) as client:
            await client.send(replace(letter, reference=new_reference()))

    async def _tampered(self, profile: SenderProfile, letter: Letter) -> None:
        entries = await asyncio.to_thread(describe, letter.listed())
        message = message_of(
            replace(letter, reference=new_reference()),
            entries,
            gateway=profile.gateway,
            sender=profile.enterprise_number,
            ovo_code=None,
            profile=profile.profile,
            created_at=datetime.now(UTC).replace(microsecond=0),
        )
        signed = sign_message(write_message(message), profile.signing_key, profile.signing_certificate)
        body = LetterBody(
            signed.replace(b"Uw aanslagbiljet", b"Uw belastingkorting"),
            [(entry, self._pdf) for entry in entries],
            stall_timeout_s=10,
        )
        transport = Transport(profile, CallTiming(), lambda: datetime.now(UTC))
        try:
            await transport.hand_over("/api/v1/messages", body, correlation_id=new_correlation_id())
        finally:
            await transport.close()

    async def _refused(self, label: str, wanted: str, attempt: Any) -> None:
        try:
            await attempt
        except CertificateRefused as refused:
            self._account.check(label, wanted == "(TLS)", f"ended in the handshake: {refused.detail}")
        except Problem as problem:
            self._account.check(label, problem.code == wanted, f"{problem.status} {problem.code}")
            self._account.say(f"    {'':<{30}} {problem.detail}")
        except ClientError as error:
            self._account.check(label, False, str(error))
        else:
            self._account.check(label, False, "was accepted")

    # ── The rest ──

    async def _metrics(self) -> None:
        self._account.chapter("What the operator sees")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self._environment.addresses.ops}/metrics") as response,
        ):
            families = list(text_string_to_metric_families(await response.text()))
        for family in families:
            if family.name not in _SHOWN:
                continue
            for sample in family.samples:
                if sample.name.endswith("_created") or sample.value == 0:
                    continue
                labels = ", ".join(f"{key}={value}" for key, value in sample.labels.items())
                self._account.fact(sample.name.removeprefix("gateway_"), f"{sample.value:g}   {labels}")
        accepted = sum(
            sample.value
            for family in families
            if family.name == "gateway_messages_accepted"
            for sample in family.samples
            if sample.name.endswith("_total")
        )
        self._account.check("messages accepted", accepted == len(SENDINGS), f"{accepted:g}")

    def _look_next(self) -> None:
        account = self._account
        account.chapter("Where to look next")
        account.fact("the log of the gateway", str(self._environment.state / "gateway.log"))
        account.fact("its configuration", str(self._environment.config_file))
        account.fact("keep it running", ".venv/bin/gateway demo --keep")
        account.fact("send your own PDF", ".venv/bin/gateway demo --pdf letter.pdf")
        account.fact("how it is built, step by step", "README.md, docs/decisions.md, gateway/accept/, gateway/deliver/")
        account.say()
        account.say("  All of this held." if account.held else "  Something above did not hold: see the lines with ✗.")


_JOURNEYS: Final[Sequence[tuple[str, ...]]] = (
    ("ebox-citizen delivered",),
    ("ebox-enterprise delivered",),
    ("print dispatched",),
    ("ebox-citizen delivered", "print dispatched"),
)
_ALL_JOURNEYS: Final = [step for journey in _JOURNEYS for step in journey]
_SHOWN: Final = ("gateway_messages_accepted", "gateway_messages_refused", "gateway_attempts")
