"""Senders that sign JSON Web Signatures with the JDK's own cryptography, which shares nothing with ours."""

import asyncio
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.crypto.dialects import Dialect
from gateway.crypto.manifest import message_json

SOURCE = Path(__file__).with_name("SignJws.java")
RUN_LIMIT_S = 60.0


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The signer, compiled; a warning is an error."""
    folder = tmp_path_factory.mktemp("classes")
    command = ["javac", "-Xlint:all", "-Werror", "-d", str(folder), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True, timeout=RUN_LIMIT_S)
    return folder


def sign(sender: Any, message: Any, algorithm: str, classes: Path, folder: Path) -> bytes:
    key = sender.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    (folder / "mine.key").write_bytes(key)
    (folder / "mine.der").write_bytes(sender.certificate.public_bytes(Encoding.DER))
    (folder / "payload.json").write_text(json.dumps(message_json(message), ensure_ascii=False, indent=1), "utf-8")
    command = ["java", "-XX:TieredStopAtLevel=1", "-Xmx64m", "-cp", str(classes), "SignJws", algorithm]
    ran = subprocess.run(
        [*command, "mine.key", "mine.der", "payload.json"],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=RUN_LIMIT_S,
    )
    return ran.stdout


@pytest.mark.needs("java", "javac")
@pytest.mark.parametrize(("name", "algorithm"), [("gemeente", "ES256"), ("belasting", "PS256"), ("belasting", "RS256")])
async def test_a_letter_signed_by_the_jdk_is_delivered(
    house: Any, classes: Path, tmp_path: Path, name: str, algorithm: str
) -> None:
    sender = await house.sender(name)
    message = sender.message(purpose="Aanslagbiljet & bijlage <2026> — één €")
    token = await asyncio.to_thread(sign, sender, message, algorithm, classes, tmp_path)
    answer = await sender.post(sender.parts(message, manifest=token, dialect=Dialect.JWS))
    assert answer.status == 201, answer.body
    await sender.until(answer.json["messageId"], lambda view: view["status"] == "delivered")
    assert house.simulators.ebox.records.copies(hashlib.sha256(house.pdf).hexdigest()) == 1
    changed = token[:-20] + (b"A" if token[-20:-19] != b"A" else b"B") + token[-19:]
    refused = await sender.post(sender.parts(message, manifest=changed, dialect=Dialect.JWS))
    assert (refused.status, refused.code) == (400, "signature-invalid")
