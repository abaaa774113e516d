"""Senders that sign with other software: what xmlsec signed is accepted over TLS, and delivered."""

import asyncio
import hashlib
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import xmlsec
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from gateway.crypto.manifest import write_message

if TYPE_CHECKING:
    from tests.plugins.second_opinion import agreed
else:
    from second_opinion import agreed

NS = "urn:document-gateway:message:1"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"

SIGNATURE = """\
<Signature xmlns="http://www.w3.org/2000/09/xmldsig#">
  <SignedInfo>
    <CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>
    <SignatureMethod Algorithm="{method}"/>
    <Reference URI="#message">
      <Transforms>
        <Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>
        <Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>
      </Transforms>
      <DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/>
      <DigestValue/>
    </Reference>
  </SignedInfo>
  <SignatureValue/>
  <KeyInfo><X509Data><X509Certificate>{certificate}</X509Certificate></X509Data></KeyInfo>
</Signature>
"""
SENDERS = [
    pytest.param("gemeente", f"{MORE}ecdsa-sha256", id="ECDSA P-256"),
    pytest.param("belasting", f"{MORE}rsa-sha256", id="RSA"),
]


def template(sender: Any, message: Any, method: str) -> etree._Element:
    """Return the message with a signature that is still to be filled in."""
    root = write_message(message)
    certificate = b64encode(sender.certificate.public_bytes(Encoding.DER)).decode()
    root.append(etree.fromstring(SIGNATURE.format(method=method, certificate=certificate)))
    return root


def sign_with_program(root: etree._Element, key_file: Path, folder: Path) -> bytes:
    source, target = folder / "template.xml", folder / "message.xml"
    source.write_bytes(etree.tostring(root, encoding="UTF-8", xml_declaration=True))
    command = ["xmlsec1", "--sign", "--id-attr:Id", f"{NS}:Message", "--privkey-pem", str(key_file)]
    subprocess.run([*command, "--output", str(target), str(source)], check=True, capture_output=True, timeout=30)
    return target.read_bytes()


def sign_with_binding(root: etree._Element, key_file: Path) -> bytes:
    xmlsec.tree.add_ids(root, ["Id"])
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_file(str(key_file), xmlsec.constants.KeyDataFormatPem)
    context.sign(root[-1])
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


async def assert_delivered(house: Any, sender: Any, message: Any, signed: bytes) -> None:
    agreed(signed, sender.certificate, message.sender)
    answer = await sender.post(sender.parts(message, manifest=signed))
    assert answer.status == 201, answer.body
    assert answer.json["reference"] == message.reference
    await sender.until(answer.json["messageId"], lambda view: view["status"] == "delivered")
    assert house.simulators.ebox.records.copies(hashlib.sha256(house.pdf).hexdigest()) == 1


@pytest.mark.needs("xmlsec1")
@pytest.mark.parametrize(("name", "method"), SENDERS)
async def test_a_letter_signed_by_the_xmlsec1_program_is_delivered(
    house: Any, certs: Path, tmp_path: Path, name: str, method: str
) -> None:
    sender = await house.sender(name)
    message = sender.message()
    root = template(sender, message, method)
    signed = await asyncio.to_thread(sign_with_program, root, certs / f"{name}.key", tmp_path)
    await assert_delivered(house, sender, message, signed)


@pytest.mark.parametrize(("name", "method"), SENDERS)
async def test_a_letter_signed_by_python_xmlsec_is_delivered(house: Any, certs: Path, name: str, method: str) -> None:
    sender = await house.sender(name)
    message = sender.message()
    signed = await asyncio.to_thread(sign_with_binding, template(sender, message, method), certs / f"{name}.key")
    await assert_delivered(house, sender, message, signed)


@pytest.mark.needs("xmlsec1")
async def test_a_letter_changed_after_xmlsec1_signed_it_is_refused(house: Any, certs: Path, tmp_path: Path) -> None:
    sender = await house.sender()
    message = sender.message()
    root = template(sender, message, f"{MORE}ecdsa-sha256")
    signed = await asyncio.to_thread(sign_with_program, root, certs / "gemeente.key", tmp_path)
    answer = await sender.post(sender.parts(message, manifest=signed.replace(b"Aanslagbiljet 2026", b"Iets anders")))
    assert (answer.status, answer.code) == (400, "signature-invalid")
    assert house.simulators.ebox.records.calls == []
