"""Hostile JSON Web Signatures: confused algorithms, foreign headers, two readings of one JSON, other octets."""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.crypto.dialects import Dialect, verify_message
from gateway.crypto.jwssig import verify_compact
from gateway.crypto.manifest import message_json
from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Message
from gateway.errors import Kind, Refusal

if TYPE_CHECKING:
    from tests.plugins.forging import Signer
    from tests.plugins.forging_jws import (
        forge_token,
        header_of,
        hmac_with,
        octets_of,
        public_forms,
        raw_jws,
        segment,
        x5c,
    )
else:
    from forging import Signer
    from forging_jws import forge_token, header_of, hmac_with, octets_of, public_forms, raw_jws, segment, x5c

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
LIMIT = 256 * 1024


def judged(token: bytes, registered: Signer, sender: str = "0406798006") -> Message:
    """What the gateway reads in a token of a sender who has registered one certificate; raises the Refusal."""

    def check(number: EnterpriseNumber, presented: x509.Certificate) -> None:
        if number != sender or presented != registered.certificate:
            raise Refusal(Kind.SIGNER_MISMATCH, "not registered")

    found = verify_message(token, Dialect.JWS, signer=check, allow_test_ssin=True)
    if isinstance(found, Refusal):
        raise found
    return found


def refused(token: bytes, registered: Signer) -> Refusal:
    with pytest.raises(Refusal) as caught:
        judged(token, registered)
    return caught.value


def self_signed(key: Any, **names: str) -> Signer:
    """A certificate for any kind of key, also one that the gateway never takes."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.get("name", "documenten.voorbeeld.be"))])
    start = datetime(2026, 11, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=key.public_key())
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=365))
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return Signer(key=key, certificate=certificate)


@pytest.fixture(scope="session")
def rsa_2048() -> Signer:
    """A key whose token fits any algorithm of RSA."""
    return self_signed(rsa.generate_private_key(public_exponent=65537, key_size=2048))


@pytest.fixture
def payload(honest: Message) -> dict[str, Any]:
    """The honest message as it is signed."""
    return message_json(honest)


# ── What is taken ──


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048), "PS256"),
        (lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256"),
        (lambda: rsa.generate_private_key(public_exponent=65537, key_size=4096), "PS256"),
    ],
)
def test_each_algorithm_is_taken_with_its_key(
    key: Callable[[], Any], algorithm: str, honest: Message, payload: dict[str, Any]
) -> None:
    signer = self_signed(key())
    assert judged(forge_token(payload, signer, header_of(signer, alg=algorithm)), signer) == honest


def test_members_may_come_in_any_order_with_white_space_and_escapes(
    gemeente: Signer, honest: Message, payload: dict[str, Any]
) -> None:
    backwards = dict(reversed(payload.items()))
    for text in (json.dumps(backwards, indent=4), json.dumps(payload, ensure_ascii=True), f"\n{json.dumps(payload)} "):
        header = json.dumps(dict(reversed(header_of(gemeente).items())), indent=1).encode()
        assert judged(forge_token(text.encode(), gemeente, header), gemeente) == honest


def test_the_other_signature_of_ecdsa_is_one_too_and_says_the_same(
    gemeente: Signer, honest: Message, payload: dict[str, Any]
) -> None:
    head, _, signature = forge_token(payload, gemeente).rpartition(b".")
    raw = octets_of(signature)
    other = raw[:32] + (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    assert judged(head + b"." + segment(other), gemeente) == honest


# ── Algorithms and keys ──

ALGORITHMS = (
    "none", "None", "NONE", "", "HS256", "HS384", "HS512", "RS384", "RS512", "PS384", "PS512", "ES512", "ES256K",
    "EdDSA", "Ed25519", "es256", "ES256 ", "RS1", "ML-DSA-44", None, 256, ["ES256"], {"alg": "ES256"}, True,
)  # fmt: skip


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_other_algorithm_is_taken(
    algorithm: object, gemeente: Signer, belasting: Signer, payload: dict[str, Any]
) -> None:
    for signer in (gemeente, belasting):
        header = {**header_of(signer), "alg": algorithm}
        for raw in (None, lambda _data: b"", hmac_with(b"")):
            token = forge_token(payload, signer, header, raw=raw)
            refusal = refused(token, signer)
            if token.endswith(b"."):
                assert refusal.kind is Kind.MALFORMED_MESSAGE  # a token without a signature is none
            else:
                assert (refusal.kind, refusal.detail[:4]) == (Kind.SIGNATURE_INVALID, "alg:")


@pytest.mark.parametrize("name", ["HS256", "ES256", "PS256", "RS256"])
def test_a_public_key_is_no_secret(name: str, gemeente: Signer, belasting: Signer, payload: dict[str, Any]) -> None:
    for signer in (gemeente, belasting):
        forms = {**public_forms(signer.key), "certificate": signer.certificate.public_bytes(Encoding.PEM)}
        for secret in forms.values():
            token = forge_token(payload, signer, header_of(signer, alg=name), raw=hmac_with(secret))
            assert refused(token, signer).kind is Kind.SIGNATURE_INVALID


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "ES384"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "ES256"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "ES256"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "ES384"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "ES256"),
        (lambda: ec.generate_private_key(ec.BrainpoolP256R1()), "ES256"),
        (lambda: ec.generate_private_key(ec.SECP256R1()), "RS256"),
        (lambda: ec.generate_private_key(ec.SECP256R1()), "PS256"),
        (lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048), "ES256"),
        (lambda: rsa.generate_private_key(public_exponent=65537, key_size=1024), "RS256"),  # noqa: S505 - weak, to be refused
        (ed25519.Ed25519PrivateKey.generate, "ES256"),
    ],
)
def test_an_algorithm_with_another_key_is_refused_before_anybody_is_asked_about_the_signer(
    key: Callable[[], Any], algorithm: str, payload: dict[str, Any]
) -> None:
    signer = self_signed(key())
    token = forge_token(payload, signer, header_of(signer, alg=algorithm))

    def never(*_: object) -> None:
        raise AssertionError("the signer was asked about")

    with pytest.raises(Refusal) as caught:
        verify_compact(token, content="message+json", signer=never)
    assert (caught.value.kind, caught.value.detail) == (
        Kind.SIGNATURE_INVALID,
        "alg does not fit the key of the certificate",
    )


def test_one_algorithm_of_rsa_is_not_the_other(rsa_2048: Signer, payload: dict[str, Any]) -> None:
    for named, used in (("PS256", "RS256"), ("RS256", "PS256"), ("RS256", "RS512"), ("PS256", "PS384")):
        token = forge_token(
            payload,
            rsa_2048,
            header_of(rsa_2048, alg=named),
            raw=lambda data, used=used: raw_jws(data, rsa_2048.key, used),  # type: ignore[misc]  # a default binds it
        )
        assert refused(token, rsa_2048).detail.startswith("signature value does not match")


def test_a_salt_of_another_length_is_refused(rsa_2048: Signer, payload: dict[str, Any]) -> None:
    for length in (0, 20, padding.PSS.MAX_LENGTH):
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), length)
        token = forge_token(payload, rsa_2048, raw=lambda data, s=scheme: rsa_2048.key.sign(data, s, hashes.SHA256()))  # type: ignore[misc]  # a default binds it
        assert refused(token, rsa_2048).detail.startswith("signature value does not match")


def test_a_signature_in_another_shape_is_refused(gemeente: Signer, payload: dict[str, Any]) -> None:
    shapes: dict[str, Callable[[bytes], bytes]] = {
        "DER": lambda data: gemeente.key.sign(data, ec.ECDSA(hashes.SHA256())),
        "zero": lambda _: bytes(64),
        "zero r": lambda data: bytes(32) + raw_jws(data, gemeente.key, "ES256")[32:],
        "order": lambda _: P256_ORDER.to_bytes(32, "big") * 2,
        "one octet": lambda _: b"\x00",
        "a zero before": lambda data: b"\x00" + raw_jws(data, gemeente.key, "ES256"),
        "a zero behind": lambda data: raw_jws(data, gemeente.key, "ES256") + b"\x00",
        "twice": lambda data: raw_jws(data, gemeente.key, "ES256") * 2,
        "wide": lambda data: raw_jws(data, gemeente.key, "ES256")[:32].rjust(48, b"\x00") * 2,
        "long": lambda _: bytes(5_000),
        "of the payload alone": lambda data: raw_jws(data.partition(b".")[2], gemeente.key, "ES256"),
    }
    for name, raw in shapes.items():
        refusal = refused(forge_token(payload, gemeente, raw=raw), gemeente)
        assert (name, refusal.kind, refusal.detail[:15]) == (name, Kind.SIGNATURE_INVALID, "signature value")


# ── The header ──

EXTRA: Mapping[str, object] = {
    "typ": "JOSE",
    "kid": "key-1",
    "jku": "https://127.0.0.1/jwks.json",
    "x5u": "https://127.0.0.1/chain.pem",
    "jwk": {"kty": "oct", "k": "c2VjcmV0"},
    "x5t": "AAAA",
    "x5t#S256": "AAAA",
    "crit": ["b64"],
    "b64": False,
    "zip": "DEF",
    "enc": "A256GCM",
    "exp": 1,
    "url": "https://127.0.0.1",
    "nonce": "1",
    "Alg": "none",
    "": "",
}


@pytest.mark.parametrize("name", EXTRA)
def test_the_header_has_no_other_member(name: str, gemeente: Signer, payload: dict[str, Any]) -> None:
    token = forge_token(payload, gemeente, header_of(gemeente, **{name: EXTRA[name]}))
    refusal = refused(token, gemeente)
    assert (refusal.kind, refusal.detail) == (
        Kind.SIGNATURE_INVALID,
        "header: exactly alg, x5c and cty, nothing else",
    )


def test_an_unencoded_payload_is_refused(gemeente: Signer, payload: dict[str, Any]) -> None:
    header = segment(json.dumps(header_of(gemeente, crit=["b64"], b64=False)).encode())
    text = json.dumps(payload).encode()
    data = header + b"." + text
    signature = segment(raw_jws(data, gemeente.key, "ES256"))
    for token in (data + b"." + signature, header + b".." + signature):
        assert refused(token, gemeente).kind is Kind.MALFORMED_MESSAGE
    assert refused(forge_token(payload, gemeente, header_of(gemeente, b64=True)), gemeente).detail[:7] == "header:"


@pytest.mark.parametrize("name", ["alg", "cty", "x5c"])
def test_the_header_has_each_of_its_members_once(name: str, gemeente: Signer, payload: dict[str, Any]) -> None:
    header = header_of(gemeente)
    without = forge_token(payload, gemeente, {key: value for key, value in header.items() if key != name})
    assert refused(without, gemeente).detail[:7] == "header:"
    escaped = f"\\u{ord(name[0]):04x}{name[1:]}"
    assert json.loads(f'"{escaped}"') == name
    for second in (name, escaped):
        for value in (header[name], "none"):
            text = json.dumps(header)[:-1] + f', "{second}": {json.dumps(value)}}}'
            refusal = refused(forge_token(payload, gemeente, text.encode()), gemeente)
            assert (refusal.kind, "twice" in refusal.detail) == (Kind.MALFORMED_MESSAGE, True)
    renamed = json.dumps(header).replace(f'"{name}"', f'"{escaped}"').encode()
    judged(forge_token(payload, gemeente, renamed), gemeente)  # another spelling of the same header


@pytest.mark.parametrize(
    "content",
    ["application/message+json", "MESSAGE+JSON", "message+json ", "JWT", "batch+json", "", 1, None, ["message+json"]],
)
def test_another_content_type_is_refused(content: object, gemeente: Signer, payload: dict[str, Any]) -> None:
    token = forge_token(payload, gemeente, {**header_of(gemeente), "cty": content})
    assert refused(token, gemeente).detail == "cty: exactly message+json"


@pytest.mark.parametrize("header", [b"", b"[]", b'"alg"', b"null", b"{", b"{}{}", b"\xff", b"\xef\xbb\xbf{}", b"{} x"])
def test_a_header_that_is_no_object_is_refused(header: bytes, gemeente: Signer, payload: dict[str, Any]) -> None:
    assert refused(forge_token(payload, gemeente, header), gemeente).kind is Kind.MALFORMED_MESSAGE


def test_x5c_is_the_one_certificate_that_signs(
    gemeente: Signer, belasting: Signer, payload: dict[str, Any], subtests: pytest.Subtests
) -> None:
    (one,) = x5c(gemeente.certificate)
    der = gemeente.certificate.public_bytes(Encoding.DER)
    urlsafe = one.replace("+", "-").replace("/", "_")
    indefinite = b"\x30\x80" + der[4:] + b"\x00\x00"  # BER
    wrong: Mapping[str, object] = {
        "none": [],
        "two": x5c(gemeente.certificate, belasting.certificate),
        "twice the same": [one, one],
        "text": one,
        "null": None,
        "a number": [1],
        "a list in it": [[one]],
        "nothing": [""],
        "PEM": [gemeente.certificate.public_bytes(Encoding.PEM).decode()],
        "a line end": [one + "\n"],
        "line ends": ["\r\n".join(one[at : at + 64] for at in range(0, len(one), 64))],
        "a space before": [" " + one],
        "no padding": [one.rstrip("=") + "A"],
        "more padding": [one + "===="],
        "octets behind": [b64encode(der + b"\x00").decode()],
        "BER": [b64encode(indefinite).decode()],
        "cut": [b64encode(der[:-1]).decode()],
        "a public key": [b64encode(public_forms(gemeente.key)["DER"]).decode()],
        "not ASCII": [one[:-4] + "éàü="],
    } | ({"base64url": [urlsafe]} if urlsafe != one else {})
    for name, chain in wrong.items():
        with subtests.test(name):
            refusal = refused(forge_token(payload, gemeente, {**header_of(gemeente), "x5c": chain}), gemeente)
            assert (refusal.kind, refusal.detail[:4]) == (Kind.SIGNATURE_INVALID, "x5c:")


def test_x5c_has_one_spelling(payload: dict[str, Any]) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    padded = 0
    for length in range(1, 13):
        signer = self_signed(ec.generate_private_key(ec.SECP256R1()), name="n" * length)
        (one,) = x5c(signer.certificate)
        bare = one.rstrip("=")
        if bare == one:
            continue  # its length leaves no bits that say nothing
        padded += 1
        last = alphabet[alphabet.index(bare[-1]) + 1]
        for twin in (bare[:-1] + last + one[len(bare) :], bare, one + "="):
            refusal = refused(forge_token(payload, signer, header_of(signer, x5c=[twin])), signer)
            assert refusal.detail[:4] == "x5c:"
    assert padded


def test_the_certificate_of_another_sender_is_a_mismatch(
    gemeente: Signer, belasting: Signer, payload: dict[str, Any]
) -> None:
    assert refused(forge_token(payload, belasting), gemeente).kind is Kind.SIGNER_MISMATCH
    borrowed = forge_token(payload, gemeente, header_of(belasting))  # its certificate, our key
    assert refused(borrowed, belasting).kind is Kind.SIGNATURE_INVALID
    assert refused(borrowed, gemeente).kind is Kind.SIGNER_MISMATCH
    attacker = self_signed(ec.generate_private_key(ec.SECP256R1()))
    assert refused(forge_token(payload, attacker), gemeente).kind is Kind.SIGNER_MISMATCH
    shown = forge_token(payload, attacker, header_of(gemeente))
    assert refused(shown, gemeente).detail.startswith("signature value does not match")


# ── The token ──


def test_what_one_token_signs_is_not_what_another_says(
    gemeente: Signer, honest: Message, payload: dict[str, Any]
) -> None:
    evil = message_json(replace(honest, subject="Schuldig verklaard"))
    good, bad = (forge_token(each, gemeente).split(b".") for each in (payload, evil))
    for token in ([good[0], bad[1], good[2]], [bad[0], good[1], bad[2]]):
        assert refused(b".".join(token), gemeente).detail.startswith("signature value does not match")
    other_header = segment(json.dumps(header_of(gemeente), indent=3).encode())
    assert refused(b".".join([other_header, good[1], good[2]]), gemeente).kind is Kind.SIGNATURE_INVALID


def test_only_the_one_spelling_of_a_token_is_taken(
    gemeente: Signer, payload: dict[str, Any], subtests: pytest.Subtests
) -> None:
    token = forge_token(payload, gemeente)
    header, content, signature = token.split(b".")
    flattened = {
        "payload": content.decode(),
        "protected": header.decode(),
        "signature": signature.decode(),
    }
    general = {
        "payload": content.decode(),
        "signatures": [{"protected": header.decode(), "signature": signature.decode()}],
    }
    wrong = {
        "nothing": b"",
        "dots": b"..",
        "JSON, flattened": json.dumps(flattened).encode(),
        "JSON, general": json.dumps(general).encode(),
        "detached": header + b".." + signature,
        "no signature": header + b"." + content + b".",
        "two parts": header + b"." + content,
        "five parts": token + b".a.b",
        "a dot behind": token + b".",
        "a dot before": b"." + token,
        "a line end behind": token + b"\n",
        "CRLF behind": token + b"\r\n",
        "a space before": b" " + token,
        "a line end within": header + b".\n" + content + b"." + signature,
        "NUL behind": token + b"\x00",
        "BOM": b"\xef\xbb\xbf" + token,
        "UTF-16": token.decode().encode("utf-16"),
        "padding": b".".join(part + b"=" * (-len(part) % 4 or 4) for part in token.split(b".")),
        "base64, not base64url": token.replace(b"-", b"+").replace(b"_", b"/") + b"+",
        "Bearer": b"Bearer " + token,
        "quoted": b'"' + token + b'"',
        "letters beyond ASCII": token[:-1] + "é".encode(),
        "one letter too many": header + b"." + content + b"." + signature + b"AAA",
    }
    for name, body in wrong.items():
        with subtests.test(name):
            assert refused(body, gemeente).kind is Kind.MALFORMED_MESSAGE


def test_bits_that_say_nothing_are_zero(gemeente: Signer, payload: dict[str, Any]) -> None:
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    found = 0
    for room in range(3):
        token = forge_token(json.dumps(payload).encode() + b" " * room, gemeente)
        parts = token.split(b".")
        for number, part in enumerate(parts):
            for last in alphabet:
                twin = part[:-1] + bytes([last])
                if twin != part and octets_of(twin) == octets_of(part):
                    found += 1
                    body = b".".join([*parts[:number], twin, *parts[number + 1 :]])
                    assert "canonical" in refused(body, gemeente).detail
    assert found >= 15 + 3 + 15  # of the signature each time, and of two of the payloads


def test_the_limit_is_of_the_part_as_it_is_sent(gemeente: Signer, honest: Message, payload: dict[str, Any]) -> None:
    text = json.dumps(payload).encode()
    room = (LIMIT - len(forge_token(text, gemeente))) * 3 // 4
    fits = forge_token(text + b" " * (room - 3), gemeente)
    assert LIMIT - 16 < len(fits) <= LIMIT
    assert judged(fits, gemeente) == honest
    over = forge_token(text + b" " * (room + 3), gemeente)
    refusal = refused(over, gemeente)
    assert (refusal.kind, refusal.detail) == (Kind.MALFORMED_MESSAGE, f"larger than {LIMIT} bytes")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_token_with_any_octet_changed_is_refused(data: st.DataObject, gemeente: Signer, honest: Message) -> None:
    token = forge_token(message_json(honest), gemeente)
    at = data.draw(st.integers(0, len(token) - 1))
    octet = data.draw(st.integers(0, 255).filter(lambda value: value != token[at]) | st.sampled_from(b"AQgw-_.=9z"))
    if octet == token[at]:
        return
    refusal = refused(token[:at] + bytes([octet]) + token[at + 1 :], gemeente)
    assert refusal.kind in (Kind.MALFORMED_MESSAGE, Kind.SIGNATURE_INVALID, Kind.SIGNER_MISMATCH, Kind.INVALID_MESSAGE)


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=200) | st.from_regex(rb"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
def test_whatever_comes_is_refused_in_order(body: bytes, gemeente: Signer) -> None:
    assert refused(body, gemeente).kind in (Kind.MALFORMED_MESSAGE, Kind.SIGNATURE_INVALID)


# ── The payload ──


def text_of(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, ensure_ascii=False)


NOT_JSON: dict[str, Callable[[str], bytes]] = {
    "nothing but a space": lambda _: b" ",
    "an array": lambda text: f"[{text}]".encode(),
    "a string": lambda text: json.dumps(text).encode(),
    "null": lambda _: b"null",
    "cut": lambda text: text[:-1].encode(),
    "twice": lambda text: (text + text).encode(),
    "something behind": lambda text: (text + ";").encode(),
    "NUL behind": lambda text: text.encode() + b"\x00",
    "a comment": lambda text: ("/* */" + text).encode(),
    "a comma too many": lambda text: (text[:-1] + ",}").encode(),
    "BOM": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "Latin-1": lambda text: text.encode("latin-1"),
    "a surrogate in UTF-8": lambda text: text.encode().replace(b"aanslagbiljet", b"\xed\xa0\x80"),
    "overlong UTF-8": lambda text: text.encode().replace(b"aanslagbiljet", b"\xc0\xaf"),
    "a raw control character": lambda text: text.replace("Uw aan", "Uw\x01aan").encode(),
    "a raw line end": lambda text: text.replace("Uw aan", "Uw\naan").encode(),
    "single quotes": lambda text: text.replace('"', "'").encode(),
    "NaN": lambda text: text.replace("102400", "NaN").encode(),
    "Infinity": lambda text: text.replace("102400", "Infinity").encode(),
    "minus Infinity": lambda text: text.replace("102400", "-Infinity").encode(),
    "a leading zero": lambda text: text.replace("102400", "0102400").encode(),
    "hexadecimal": lambda text: text.replace("102400", "0x19000").encode(),
    "a number of 33 digits": lambda text: text.replace("102400", "1" * 33).encode(),
    "a long number": lambda text: text.replace("102400", "1" * 5_000).encode(),
    "too deep": lambda text: (text[:-1] + ', "more": ' + "[" * 32 + "]" * 32 + "}").encode(),
    "far too deep": lambda text: (text[:-1] + ', "more": ' + "[" * 50_000 + "]" * 50_000 + "}").encode(),
    "a name twice": lambda text: (text[:-1] + ', "subject": {"lang": "nl", "text": "a"}}').encode(),
    "a name twice, escaped": lambda text: (text[:-1] + ', "sub\\u006aect": {"lang": "nl", "text": "a"}}').encode(),
    "a name twice, deeper": lambda text: text.replace('"ssin":', '"ssin": "00012556777", "ssin":').encode(),
    "an unknown name twice": lambda text: (text[:-1] + ', "a": 1, "\\u0061": 1}').encode(),
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_a_payload_that_two_readers_could_read_differently_is_refused(
    name: str, gemeente: Signer, payload: dict[str, Any]
) -> None:
    text = text_of(payload)
    made = NOT_JSON[name](text)
    assert made != text.encode()
    refusal = refused(forge_token(made, gemeente), gemeente)
    assert (refusal.kind, "payload" in refusal.detail) == (Kind.MALFORMED_MESSAGE, True)
    assert [value for value in ("90610100155", "Peeters", "aanslagbiljet") if value in refusal.detail] == []


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], list[str]]] = {
    "a float": (lambda it: it["documents"][0].update(size=346.0), ["/documents/0/size"]),
    "a float without end": (lambda it: it["documents"][0].update(size=1e308 * 10), ["/documents/0/size"]),
    "a text for a number": (lambda it: it["documents"][0].update(size="346"), ["/documents/0/size"]),
    "a truth for a number": (lambda it: it["documents"][0].update(size=True), ["/documents/0/size"]),
    "a number for a truth": (lambda it: it["documents"][0].update(main=1), ["/documents/0/main", "/documents"]),
    "null": (lambda it: it.update(lane=None), ["/lane"]),
    "an object for a text": (lambda it: it.update(purpose={"text": "a"}), ["/purpose"]),
    "an array for a text": (lambda it: it["recipient"]["postalAddress"].update(country=["BE"]),
                            ["/recipient/postalAddress/country"]),
    "an array for a word": (lambda it: it["subject"].update(lang=["nl"]), ["/subject/lang"]),
    "an object for a channel": (lambda it: it.update(channels=[{}]), ["/channels/0"]),
    "an array for an object": (lambda it: it.update(recipient=[]), ["/recipient", "/recipient"]),
    "a member that nobody knows": (lambda it: it.update({"a/b~c": 1}), ["/a~1b~0c"]),
    "a lone surrogate in a name": (lambda it: it.update({"\ud800": 1}), ["/\ud800"]),
    "a lone surrogate": (lambda it: it.update(purpose="a\ud800"), ["/purpose"]),
    "not NFC": (lambda it: it.update(purpose="e\u0301e\u0301n"), ["/purpose"]),
    "a BOM in a text": (lambda it: it.update(purpose="\ufeff a\u202e"), ["/purpose"]),
    "a control character": (lambda it: it.update(purpose="a\u0000b"), ["/purpose"]),
    "no documents": (lambda it: it.pop("documents"), ["/documents"]),
    "everything": (lambda it: [it.pop(name) for name in list(it) if name != "sender"],
                   ["/recipient", "/subject", "/gateway", "/reference", "/createdAt", "/category", "/purpose",
                    "/documents"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_was_signed_keeps_the_rules_of_the_fields(name: str, gemeente: Signer, payload: dict[str, Any]) -> None:
    change, pointers = WRONG[name]
    change(payload)
    text = json.dumps(payload).replace("Infinity", "1e400").encode()  # a number of JSON, too large for any reader
    refusal = refused(forge_token(text, gemeente), gemeente)
    assert refusal.kind is Kind.INVALID_MESSAGE
    found = [error.pointer for error in refusal.errors]
    assert found[: len(pointers)] == pointers
    json.dumps(found).encode()


def test_faults_are_told_up_to_a_hundred_and_names_in_short(gemeente: Signer, payload: dict[str, Any]) -> None:
    payload |= {f"{number:05}" + "x" * 500: 1 for number in range(300)}
    refusal = refused(forge_token(payload, gemeente), gemeente)
    assert len(refusal.errors) == 100
    assert max(len(error.pointer) for error in refusal.errors) <= 65


@pytest.mark.parametrize(
    "sender", [None, "0406798006", {}, {"enterpriseNumber": 406798006}, {"enterpriseNumber": "0406798007"}, []]
)
def test_a_token_that_does_not_say_whose_it_is_is_refused_at_once(
    sender: object, gemeente: Signer, payload: dict[str, Any]
) -> None:
    refusal = refused(forge_token({**payload, "sender": sender}, gemeente, raw=lambda _: b"none at all"), gemeente)
    assert refusal.kind is Kind.INVALID_MESSAGE
    assert [error.pointer for error in refusal.errors] == ["/sender/enterpriseNumber"]


def test_a_receipt_of_the_gateway_is_no_message(gemeente: Signer, payload: dict[str, Any]) -> None:
    header = {"typ": "dgw-receipt+jws", "alg": "ES256", "x5c": x5c(gemeente.certificate)}
    assert refused(forge_token(payload, gemeente, header), gemeente).kind is Kind.SIGNATURE_INVALID


def test_a_message_is_read_only_as_its_type_says(
    gemeente: Signer, honest_xml: bytes, payload: dict[str, Any], judge: Callable[[bytes, Signer], Message]
) -> None:
    assert refused(honest_xml, gemeente).kind is Kind.MALFORMED_MESSAGE
    with pytest.raises(Refusal) as caught:
        judge(forge_token(payload, gemeente), gemeente)
    assert caught.value.kind is Kind.MALFORMED_MESSAGE
