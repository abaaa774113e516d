"""Proofs that a print house keeps: listed, fetched from itself alone, bounded, and compared with what it listed."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from gateway.adapters.base import Handed, Handover, Proof, ProofUnusable, Proving
from gateway.adapters.ebox import EboxAdapter
from gateway.adapters.limits import BreakerRules, CallLimits, Circuit, LimitedAdapter
from gateway.adapters.print_rest import MAX_PROOF_BYTES, PrintRestAdapter
from gateway.domain.message import PrintOptions, PrintProduct
from gateway.domain.status import DeliveryStatus
from gateway.errors import Unreachable

PDF = b"%PDF-1.7 proof"
DIGEST = hashlib.sha256(PDF).hexdigest()
NO_WAIT = {"look_up_wait_s": 0.0}


@pytest.fixture
def handed(letters: Any) -> Handed:
    handed: Handed = letters.handed(letters.on_paper(), Handover(status=DeliveryStatus.ACCEPTED))
    return handed


@pytest.fixture
def lists(stub: Any) -> Any:
    """Makes the stub list these entries and answer every other path with a PDF, or as told."""

    def answer(listed: Any, pdf: bytes = PDF, media_type: str = "application/pdf") -> None:
        async def respond(request: web.Request) -> web.StreamResponse:
            if request.path.endswith("/evidence"):
                return web.json_response(listed)
            return web.Response(body=pdf, content_type=media_type)

        stub.answer = respond

    return answer


def entry(uri: str, **changes: Any) -> dict[str, Any]:
    return {"type": "proof_of_posting", "sha256": DIGEST, "uri": uri} | changes


async def test_the_proofs_of_a_registered_letter_are_listed_and_fetched(printing: Any, letters: Any) -> None:
    adapter = printing.adapter()
    parcel = letters.on_paper(print_options=PrintOptions(product=PrintProduct.REGISTERED_AR))
    handed = letters.handed(parcel, await adapter.send(parcel, again=False))
    assert await adapter.evidence(handed) == []
    for status in ("DISPATCHED", "DELIVERED"):
        printing.simulator.queue.advance(str(parcel.delivery_id), to=status)
    proofs = await adapter.evidence(handed)
    kept = printing.simulator.jobs[str(parcel.delivery_id)].evidence
    assert [proof.kind for proof in proofs] == ["proof_of_posting", "acknowledgement"]
    assert [await proof.fetch() for proof in proofs] == [each.content for each in kept]
    assert [proof.sha256.hex() for proof in proofs] == [each.sha256 for each in kept]


async def test_a_job_that_the_house_does_not_know_has_no_proofs(printing: Any, handed: Handed) -> None:
    assert await printing.adapter().evidence(handed) == []


async def test_files_are_fetched_from_below_the_list_alone(
    printing: Any, stub: Any, lists: Any, handed: Handed
) -> None:
    base = f"{stub.url}/v1/print-jobs/{handed.delivery_id}/evidence"
    good = [f"{base}/1", "2", f"/v1/print-jobs/{handed.delivery_id}/evidence/proof-3.pdf"]
    bad = [
        "https://elsewhere.example/1",
        f"{stub.url.replace('127.0.0.1', 'localhost')}/v1/print-jobs/{handed.delivery_id}/evidence/1",
        f"{base}/../../other/evidence/1",
        f"{base}/../evidence2/1",
        f"{base}/1/2",
        f"{base}/1?to=elsewhere",
        f"{base}/1#x",
        f"{base}/%2e%2e",
        f"{base}/",
        f"{base}2/1",
        "//elsewhere.example/1",
        "file:///etc/passwd",
        "",
    ]
    lists([entry(uri) for uri in good + bad])
    adapter = printing.adapter(base_url=f"{stub.url}/v1")
    proofs = await adapter.evidence(handed)
    assert len(proofs) == len(good)
    assert [await proof.fetch() for proof in proofs] == [PDF] * len(good)
    paths = [path for path, _, _ in stub.requests[1:]]
    assert paths == [f"/v1/print-jobs/{handed.delivery_id}/evidence/{name}" for name in ("1", "2", "proof-3.pdf")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": None}, {"type": 1}, {"type": "90610100155"}, {"sha256": "00"}, {"sha256": None},
        {"sha256": DIGEST.upper()}, {"uri": 1}, {"uri": None},
    ],
)  # fmt: skip
async def test_an_entry_in_another_form_is_left_out(
    printing: Any, stub: Any, lists: Any, handed: Handed, wrong: dict[str, Any]
) -> None:
    lists([entry("1") | wrong, "proof", None, entry("2")])
    (proof,) = await printing.adapter(base_url=stub.url).evidence(handed)
    assert await proof.fetch() == PDF


@pytest.mark.parametrize("listed", [{}, None, "1", {"evidence": []}])
async def test_what_is_no_list_is_no_answer(printing: Any, stub: Any, lists: Any, handed: Handed, listed: Any) -> None:
    lists(listed)
    with pytest.raises(Unreachable):
        await printing.adapter(base_url=stub.url).evidence(handed)


@pytest.mark.parametrize(
    ("pdf", "media_type"),
    [(PDF + b" ", "application/pdf"), (b"", "application/pdf"), (PDF, "text/html")],
)
async def test_a_file_that_is_not_the_one_listed_is_refused(  # noqa: PLR0917 - fixtures come by position
    printing: Any, stub: Any, lists: Any, handed: Handed, pdf: bytes, media_type: str
) -> None:
    lists([entry("1")], pdf, media_type)
    (proof,) = await printing.adapter(base_url=stub.url).evidence(handed)
    with pytest.raises(ProofUnusable):
        await proof.fetch()


async def test_a_file_that_is_too_large_is_not_read_to_its_end(
    printing: Any, stub: Any, lists: Any, handed: Handed
) -> None:
    largest = b"%PDF" + bytes(MAX_PROOF_BYTES - 4)
    for content, is_taken in ((largest, True), (largest + b"\0", False)):
        lists([entry("1", sha256=hashlib.sha256(content).hexdigest())], content)
        (proof,) = await printing.adapter(base_url=stub.url, look_up_tries=1).evidence(handed)
        if is_taken:
            assert await proof.fetch() == content
        else:
            with pytest.raises(Unreachable, match="too long"):
                await proof.fetch()


def test_a_print_house_keeps_proofs_and_an_ebox_none() -> None:
    assert issubclass(PrintRestAdapter, Proving)
    assert not issubclass(EboxAdapter, Proving)


class Keeper:
    """An adapter of which only the proofs count."""

    def __init__(self, proof: Proof | None) -> None:
        self._proof = proof

    async def evidence(self, handed: Handed) -> list[Proof]:  # noqa: ARG002 - the signature of Proving
        if self._proof is None:
            raise Unreachable("away")
        return [self._proof]


def proof_of(result: bytes | Exception) -> Proof:
    async def fetch() -> bytes:
        if isinstance(result, Exception):
            raise result
        return result

    return Proof(kind="proof_of_posting", media_type="application/pdf", sha256=bytes(32), fetch=fetch)


def limited(keeper: Any) -> LimitedAdapter:
    return LimitedAdapter(keeper, CallLimits(breaker=BreakerRules(troubles_to_open=2)))


async def test_a_wrong_file_says_nothing_of_the_house_but_silence_does(handed: Handed) -> None:
    wrong = limited(Keeper(proof_of(ProofUnusable("another digest"))))
    for _ in range(5):
        (proof,) = await wrong.evidence(handed)
        with pytest.raises(ProofUnusable):
            await proof.fetch()
    assert wrong.state.circuit is Circuit.CLOSED
    silent = limited(Keeper(None))
    for _ in range(2):
        with pytest.raises(Unreachable, match="away"):
            await silent.evidence(handed)
    assert silent.state.circuit is Circuit.OPEN
    with pytest.raises(Unreachable, match="not called"):
        await silent.evidence(handed)


async def test_fetching_has_a_place_among_the_calls_of_its_house(handed: Handed) -> None:
    running: list[int] = []

    async def fetch() -> bytes:
        running.append(within.state.running)
        return PDF

    within = limited(Keeper(replace(proof_of(PDF), fetch=fetch)))
    (proof,) = await within.evidence(handed)
    assert await proof.fetch() == PDF
    assert running == [1]


async def test_an_adapter_without_proofs_has_none_within_limits_either(handed: Handed) -> None:
    assert await limited(object()).evidence(handed) == []
