"""Every answer of a running gateway, success and problem, against what the published contract says of it."""

import base64
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from gateway.domain.ids import Ssin
from gateway.domain.message import Channel, PrintOptions, PrintProduct, Recipient
from gateway.simulators.magic import CITIZEN_NO_CONSENT

if TYPE_CHECKING:
    from tests.plugins.house import Answer, House, SenderHand
else:
    from house import Answer, House, SenderHand

API = "/api/v1"
UNKNOWN = "01a2014e-92d4-7f37-a359-d66bd764a1fe"
PERSON = {"ssin": "90610100155"}
FILES = (
    "openapi.json", "docs", "message.xsd", "batch.xsd", "receipt.xsd", "xmldsig-subset.xsd", "message.schema.json",
    "batch.schema.json", "examples/message.xml", "examples/message.jws", "examples/batch.xml", "examples/batch.jws",
    "examples/batch-m1.xml", "examples/batch-m1.json",
)  # fmt: skip
TOLD = ("Location", "Retry-After", "Content-Disposition", "ETag")
JSON = {"Content-Type": "application/json"}


def pointer(*steps: str) -> str:
    return "/".join(["#", *(step.replace("~", "~0").replace("/", "~1") for step in steps)])


class Contract:
    """An OpenAPI document that judges answers; `seen` holds what each operation was seen to answer."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self.registry = Registry().with_resource("urn:contract", DRAFT202012.create_resource(document))
        self.seen: defaultdict[str, set[tuple[int, str | None]]] = defaultdict(set)

    def faults(self, value: Any, *steps: str) -> list[str]:
        """What is wrong with a value by the schema that stands at a place of the document."""
        schema = {"$ref": "urn:contract" + pointer(*steps)}
        validator = Draft202012Validator(schema, registry=self.registry, format_checker=FormatChecker())
        return [f"{fault.json_path}: {fault.message[:300]}" for fault in validator.iter_errors(value)]

    def template(self, path: str) -> str:
        """The documented path that a path is an instance of."""
        plain = path.partition("?")[0]
        fitting = [each for each in self.document["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each), plain)]
        assert len(fitting) == 1, (path, fitting)
        return str(fitting[0])

    def wrong(self, method: str, path: str, answer: Answer) -> list[str]:
        """What is wrong with an answer."""
        template = self.template(path)
        at = ("paths", template, method.lower(), "responses", str(answer.status))
        responses = self.document["paths"][template][method.lower()]["responses"]
        response = responses.get(str(answer.status))
        if response is None:
            return [f"undocumented status {answer.status}: {answer.body[:300]!r}"]
        problem = answer.headers.get("Content-Type", "").startswith("application/problem+json")
        self.seen[f"{method} {template}"].add((answer.status, answer.code if problem else None))
        return [*self._wrong_headers(response, answer), *self._wrong_body(response, answer, at)]

    def _wrong_headers(self, response: Any, answer: Answer) -> Iterator[str]:
        named = {
            name: self.document["components"]["headers"][name] if "$ref" in header else header
            for name, header in response["headers"].items()
        }
        for name, header in named.items():
            text = answer.headers.get(name)
            if text is None:
                if header["required"]:
                    yield f"header {name} is missing"
                continue
            value = int(text) if header["schema"]["type"] == "integer" else text
            yield from (fault.message for fault in Draft202012Validator(header["schema"]).iter_errors(value))
        yield from (f"header {name} is not documented" for name in TOLD if name in answer.headers and name not in named)
        if "Cache-Control" not in named and answer.headers["Cache-Control"] != "no-store":
            yield "it may be kept by caches"

    def _wrong_body(self, response: Any, answer: Answer, at: tuple[str, ...]) -> list[str]:
        if "content" not in response:
            return ["there is a body"] if answer.body else []
        media_type = answer.headers["Content-Type"].partition(";")[0]
        if media_type not in response["content"]:
            return [f"undocumented type {media_type}"]
        if media_type in ("application/zip", "application/pdf"):
            return []
        value = json.loads(answer.body) if media_type.endswith("json") else answer.body.decode()
        return self.faults(value, *at, "content", media_type, "schema")


class Witness:
    """A sender whose every answer is held against the contract."""

    def __init__(self, contract: Contract, sender: SenderHand) -> None:
        self.contract = contract
        self.sender = sender

    async def ask(
        self, method: str, path: str, status: int, *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask; the answer has this status and keeps the contract."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**(JSON if content is not None else {}), **(headers or {})}
        answer = await self.sender.call(method, API + path, body=content, headers=sent)
        return self.judged(method, path, status, answer)

    async def post(self, parts: list[Any], status: int, query: str = "", **headers: str) -> Answer:
        """Hand parts over."""
        answer = await self.sender.post(parts, headers, path=f"{API}/messages{query}")
        return self.judged("POST", "/messages", status, answer)

    def judged(self, method: str, path: str, status: int, answer: Answer) -> Answer:
        assert answer.status == status, (method, path, answer.body[:1_000])
        assert self.contract.wrong(method, API + path, answer) == [], (method, path)
        return answer


async def witness_of(house: House) -> Witness:
    """A sender of a running gateway, with the contract as that gateway publishes it."""
    sender = await house.sender()
    return Witness(Contract((await sender.call("GET", f"{API}/openapi.json")).json), sender)


def payload(token: str) -> Any:
    middle = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))


# ── The answers ──


async def handing_over(witness: Witness) -> None:
    sender = witness.sender
    message = sender.message()
    parts = sender.parts(message)
    first = await witness.post(parts, 201)
    assert witness.contract.faults(payload(first.json["receipt"]), "components", "schemas", "ReceiptStatement") == []
    await witness.post(parts, 200)
    await witness.post(parts, 200, Accept="application/xml")
    await witness.post(sender.parts(sender.message()), 201, Accept="application/xml")
    for query in ("?mode=check", "?mode=no"):
        await witness.post(sender.parts(sender.message()), 200 if query == "?mode=check" else 400, query)
    await witness.post(sender.parts(sender.message(category="none")), 200, "?mode=check")
    conflict = replace(message, subject="Another")
    old = datetime(2020, 1, 1, tzinfo=UTC)
    refused = {
        "reference-conflict": (409, sender.parts(conflict)),
        "created-at-out-of-window": (422, sender.parts(sender.message(created_at=old))),
        "signature-invalid": (400, sender.parts(message, manifest=sender.sign(message).replace(b"Uw ", b"Mijn "))),
        "invalid-message": (422, sender.parts(sender.message(recipient=Recipient(ssin=Ssin("90610100155"))))),
        "malformed-message": (400, sender.parts(message, manifest=b"<Message")),
        "multipart-invalid": (400, sender.parts(sender.message(), contents=[])),
        "wrong-gateway": (422, sender.parts(sender.message(gateway="gateway.other.example"))),
        "category-not-authorised": (403, sender.parts(sender.message(category="administrative-fine"))),
        "recipient-not-authorised": (403, sender.parts(sender.message(category="building-permit"))),
        "document-mismatch": (422, sender.parts(sender.message(), [b"%PDF-another"])),
        "channel-cannot-carry": (422, sender.parts(sender.message(channels=(Channel.EBOX_ENTERPRISE,)))),
    }
    for code, (status, wrong) in refused.items():
        assert (await witness.post(wrong, status)).code == code
    await witness.ask("POST", "/messages", 415, body={})


async def handing_batches_over(witness: Witness, batches: Any) -> None:
    sender = witness.sender
    batch = batches.batch_of(sender, 4)
    batch.messages[1] = replace(batch.messages[1], category="administrative-fine")
    await sender.send(reference=batch.messages[2].reference, subject="Another")
    taken = witness.judged("POST", "/batches", 200, await batch.send(batch.parts([1, 2, 3])))
    assert batches.outcomes(taken.json["items"]) == [
        "accepted",
        "category-not-authorised",
        "reference-conflict",
        "missing",
    ]
    other = batches.batch_of(sender, 1, reference=batch.reference)
    assert witness.judged("POST", "/batches", 409, await other.send()).code == "reference-conflict"
    nothing = batches.batch_of(sender, 1)
    witness.judged("POST", "/batches", 200, await nothing.send([nothing.signed()]))
    one = f"/batches/{taken.json['batchId']}"
    await witness.ask("GET", one, 200)
    await witness.ask("POST", f"{one}/cancel", 200)
    await witness.ask("GET", f"/batches/{UNKNOWN}", 404)
    await witness.ask("POST", f"/batches/{UNKNOWN}/cancel", 404)


async def following(witness: Witness, message_id: str) -> None:
    one = f"/messages/{message_id}"
    await witness.ask("GET", one, 200)
    await witness.ask("GET", f"/messages/{UNKNOWN}", 404)
    page = await witness.ask("GET", "/messages?limit=1", 200)
    await witness.ask("GET", f"/messages?cursor={page.json['nextCursor']}", 200)
    await witness.ask("GET", "/messages?limit=0&status=sent", 400)
    asked = {"messages": [{"messageId": message_id}, {"messageId": UNKNOWN}]}
    for body in (asked, {"messagesStatusRequest": asked}):
        answer = await witness.ask("POST", "/statusRequest", 200, body=body)
        assert (len(answer.json["messages"]), answer.json["unknown"]) == (1, [UNKNOWN])
    await witness.ask("POST", "/statusRequest", 400, body={"messages": []})
    await witness.ask("POST", "/statusRequest", 415, body={}, headers={"Content-Type": "text/plain"})
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    waiting = await witness.sender.accepted(deliver_not_before=later)
    await witness.ask("POST", f"/messages/{waiting}/cancel", 200)
    await witness.ask("POST", f"{one}/cancel", 409)
    await witness.ask("POST", f"/messages/{UNKNOWN}/cancel", 404)


async def reading_events(witness: Witness) -> None:
    first = await witness.ask("GET", "/events?limit=1", 200)
    assert first.json["more"]
    await witness.ask("GET", f"/events?after={first.json['nextCursor']}", 200)
    await witness.ask("GET", "/events?after=nonsense", 400)
    cursor = first.json["nextCursor"]
    text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    epoch = text.split(":")[1]
    other = base64.urlsafe_b64encode(text.replace(epoch, epoch[::-1]).encode()).decode().rstrip("=")
    assert (await witness.ask("GET", f"/events?after={other}", 410)).code == "feed-restored"


async def proving(witness: Witness, message_id: str) -> None:
    one = f"/messages/{message_id}"
    listed = await witness.ask("GET", f"{one}/evidence", 200)
    for entry in listed.json["evidence"]:
        token = (await witness.ask("GET", f"{one}/evidence/{entry['n']}", 200)).body.decode()
        assert witness.contract.faults(payload(token), "components", "schemas", "EvidenceStatement") == []
    await witness.ask("GET", f"{one}/kit", 200)
    await witness.ask("GET", f"{one}/evidence/999", 404)
    for what in ("evidence", "kit", "bpost-status", "bpost-attestation"):
        await witness.ask("GET", f"/messages/{UNKNOWN}/{what}", 404)


async def asking_the_post(witness: Witness, house: House, message_id: str) -> None:
    for what in ("status", "attestation"):
        await witness.ask("GET", f"/messages/{message_id}/bpost-{what}", 200)
    house.simulators.print_house.faults.order("evidence", "server-error", times=10)
    answer = await witness.ask("GET", f"/messages/{message_id}/bpost-attestation", 503)
    assert answer.code == "provider-unavailable"
    house.simulators.print_house.faults.clear()


async def keeping_dossiers(witness: Witness) -> None:
    dossier = {"recipient": PERSON, "category": "building-permit", "from": "2026-01-01"}
    ending = {**dossier, "until": "2030-01-01"}
    registered = await witness.ask("POST", "/dossiers", 200, body={"dossiers": [dossier, ending]})
    found = registered.json["dossiers"][0]
    await witness.ask("POST", "/dossiers", 422, body={"dossiers": [{**dossier, "category": "none"}]})
    await witness.ask("POST", "/dossiers", 400, body={})
    asked = {"recipients": [PERSON, {"enterpriseNumber": "0566988259"}]}
    await witness.ask("POST", "/dossiers/search", 200, body=asked)
    await witness.ask("POST", "/dossiers/search", 422, body={"recipients": [{}]})
    await witness.ask("POST", "/dossiers/end", 200, body={"dossiers": [found, {"dossierId": UNKNOWN}]})
    await witness.ask("POST", "/dossiers/search", 200, body=asked)
    await witness.ask("POST", "/dossiers/end", 400, body={"dossiers": [{}]})


async def reading_the_contract(witness: Witness) -> None:
    await witness.ask("GET", "/trust", 200)
    await witness.ask("GET", "/trust", 400, headers={"x-correlation-id": "not one!"})
    for name in FILES:
        file = await witness.ask("GET", f"/{name}", 200)
        await witness.ask("GET", f"/{name}", 304, headers={"If-None-Match": file.headers["ETag"]})
        await witness.ask("GET", f"/{name}", 400, headers={"Client-Cert": "none"})


async def being_known(witness: Witness, house: House) -> None:
    await witness.ask("GET", "/whoami", 200, headers={"Date": format_datetime(datetime.now(UTC), usegmt=True)})
    for name, number, status in (
        ("belasting", "0406798006", 200),
        ("belasting", None, 200),
        ("gemeente", "0566988259", 403),
        ("unknown-sender", None, 403),
        ("gemeente", "12", 400),
    ):
        headers = {"On-Behalf-Of-Enterprise-Number": number} if number is not None else {}
        await Witness(witness.contract, await house.sender(name)).ask("GET", "/whoami", status, headers=headers)


async def test_every_operation_answers_as_the_contract_says(house: House, batches: Any) -> None:
    witness = await witness_of(house)
    sender, contract = witness.sender, witness.contract
    registered = await sender.accepted(
        channels=(Channel.PRINT,), print_options=PrintOptions(product=PrintProduct.REGISTERED_AR)
    )
    on_paper = await sender.accepted(recipient=replace(sender.message().recipient, ssin=Ssin(CITIZEN_NO_CONSENT)))
    digital = await sender.accepted()
    await handing_over(witness)
    await handing_batches_over(witness, batches)
    await keeping_dossiers(witness)
    await being_known(witness, house)
    await reading_the_contract(witness)
    await sender.until(digital, lambda view: view["timeline"][-1]["event"] == "erased")
    await sender.until(on_paper, lambda view: view["status"] == "delivered")
    await sender.until(registered, lambda view: view["status"] == "delivered")
    for message_id in (digital, on_paper, registered):
        await following(witness, message_id)
        await proving(witness, message_id)
    await asking_the_post(witness, house, registered)
    await reading_events(witness)
    for template, operations in contract.document["paths"].items():
        for method, operation in operations.items():
            seen = contract.seen[f"{method.upper()} {template}"]
            told = {int(status) for status in operation["responses"] if int(status) < 400}
            assert told <= {status for status, _ in seen}, (method, template, "was not seen to succeed")
            assert any(code is not None for _, code in seen), (method, template, "was not seen to refuse")


async def test_what_was_used_up_or_suspended_is_answered_as_the_contract_says(
    make_house: Any, registered: Any, inside: Any
) -> None:
    senders = registered(n0406798006=lambda values: values.update(quota={"messages_per_day": 1}))
    house = await make_house(lambda values: values["gateway"].update(senders=senders), parts=["intake"])
    witness = await witness_of(house)
    sender = witness.sender
    await witness.post(sender.parts(sender.message()), 201)
    assert (await witness.post(sender.parts(sender.message()), 429)).code == "quota-exceeded"
    await witness.post(sender.parts(sender.message()), 200, "?mode=check")
    await inside(house).suspend("0406798006")
    assert (await witness.ask("GET", "/messages", 403)).code == "sender-suspended"
    assert (await witness.post(sender.parts(sender.message()), 403)).code == "sender-suspended"
    await witness.ask("GET", "/docs", 200)


async def test_what_no_operation_is_for_is_answered_with_a_problem_of_the_contract(intake: House) -> None:
    witness = await witness_of(intake)
    for method, path, status in (("GET", "/nowhere", 404), ("DELETE", "/messages", 405)):
        answer = await witness.sender.call(method, API + path)
        assert answer.status == status
        assert witness.contract.faults(answer.json, "components", "schemas", "Problem") == []


# ── The judge ──


async def test_what_the_contract_does_not_say_is_found(intake: House) -> None:
    contract = (await witness_of(intake)).contract
    document = contract.document
    example = document["paths"]["/api/v1/messages/{messageId}"]["get"]["responses"]["200"]["content"]
    view = example["application/json"]["example"]
    headers = {"Content-Type": "application/json", "x-correlation-id": "a", "Cache-Control": "no-store"}

    def faults(view: Any, status: int = 200, changed: Mapping[str, str] | None = None) -> int:
        answer = Answer(status, {**headers, **(changed or {})}, json.dumps(view).encode())
        return len(contract.wrong("GET", f"{API}/messages/{UNKNOWN}", answer))

    assert faults(view) == 0
    assert faults({**view, "purpose": "Aanslagbiljet 2026"}) == 1
    assert faults({**view, "copy": {**view["copy"], "name": "Jan"}}) == 1
    assert faults({**view, "status": "sent"}) == 1
    assert faults({name: value for name, value in view.items() if name != "receipt"}) == 1
    assert faults(view, 202) == 1
    assert faults(view, 200, {"Location": "https://elsewhere.example"}) == 1
    assert faults(view, 200, {"Cache-Control": "public"}) == 1
    assert faults(view, 200, {"Content-Type": "text/plain"}) == 1
    problem = {
        "type": "urn:document-gateway:problem:not-found",
        "title": "t",
        "status": 404,
        "detail": "d",
        "instance": "i",
    }
    as_problem = {"Content-Type": "application/problem+json"}
    assert faults(problem, 404, as_problem) == 0
    assert faults({**problem, "type": "urn:document-gateway:problem:cursor-expired"}, 404, as_problem) == 1
    assert faults({**problem, "messageId": UNKNOWN}, 404, as_problem) == 1
    assert faults({**problem, "status": 403}, 404, as_problem) == 1
