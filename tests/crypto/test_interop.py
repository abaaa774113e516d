"""Messages signed by another implementation, xmlsec, are accepted: by its program and by its Python binding."""

import subprocess
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from lxml import etree

from gateway.crypto.manifest import read_message
from gateway.crypto.signing import SigningKey, sign_message
from gateway.domain.message import Message

if TYPE_CHECKING:
    from tests.plugins.second_opinion import agreed
else:
    from second_opinion import agreed

NS = "urn:document-gateway:message:1"
DS = "http://www.w3.org/2000/09/xmldsig#"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"

TEMPLATE = """\
<?xml version="1.0" encoding="UTF-8"?>
<Message xmlns="urn:document-gateway:message:1" Id="message">
  <!-- a person would indent it -->
  <Gateway>gateway.example.be</Gateway>
  <Reference>2026-000123</Reference>
  <CreatedAt>2026-11-22T10:00:00Z</CreatedAt>
  <Sender><EnterpriseNumber>0406798006</EnterpriseNumber></Sender>
  <Category>tax-assessment</Category>
  <Purpose>Aanslagbiljet &amp; bijlage 2026 — één</Purpose>
  <Recipient><Ssin>90610100155</Ssin></Recipient>
  <Subject lang="nl"><![CDATA[Uw aanslagbiljet]]></Subject>
  <Documents>
    <Document part="upfile1" filename="brief.pdf" mediaType="application/pdf" size="102400"
      sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" main="true"/>
  </Documents>
  <Signature xmlns="http://www.w3.org/2000/09/xmldsig#">
    <SignedInfo>
      <CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>
      <SignatureMethod Algorithm="{method}"/>
      <Reference URI="{uri}">
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
</Message>
"""

METHODS = [
    pytest.param("gemeente", f"{MORE}ecdsa-sha256", id="ECDSA P-256"),
    pytest.param("gemeente", f"{MORE}ecdsa-sha512", id="ECDSA P-256, SHA-512"),
    pytest.param("belasting", f"{MORE}rsa-sha256", id="RSA"),
    pytest.param("belasting", f"{MORE}rsa-sha512", id="RSA, SHA-512"),
]


@dataclass(frozen=True, kw_only=True)
class Party:
    key_file: Path
    certificate: x509.Certificate

    @classmethod
    def of(cls, certs: Path, name: str) -> "Party":
        certificate = x509.load_pem_x509_certificates((certs / f"{name}.pem").read_bytes())[0]
        return cls(key_file=certs / f"{name}.key", certificate=certificate)

    def template(self, method: str, uri: str) -> str:
        certificate = b64encode(self.certificate.public_bytes(Encoding.DER)).decode()
        return TEMPLATE.format(method=method, uri=uri, certificate=certificate)


def accepted(body: bytes, signer: Party) -> Message:
    return read_message(agreed(body, signer.certificate).root, allow_test_ssin=True)


def signature_of(root: etree._Element) -> etree._Element:
    signature = root.find(f"{{{DS}}}Signature")
    assert signature is not None
    return signature


def sign_with_program(template: str, signer: Party, directory: Path) -> bytes:
    source, target = directory / "template.xml", directory / "message.xml"
    source.write_text(template, "utf-8")
    command = ["xmlsec1", "--sign", "--id-attr:Id", f"{NS}:Message", "--privkey-pem", str(signer.key_file)]
    subprocess.run([*command, "--output", str(target), str(source)], check=True, capture_output=True, timeout=30)
    return target.read_bytes()


def sign_with_binding(template: str, signer: Party) -> bytes:
    root = etree.fromstring(template.encode())
    xmlsec.tree.add_ids(root, ["Id"])
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_file(str(signer.key_file), xmlsec.constants.KeyDataFormatPem)
    context.sign(signature_of(root))
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


@pytest.mark.needs("xmlsec1")
@pytest.mark.parametrize("uri", ["", "#message"])
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_a_message_signed_by_the_xmlsec1_program_is_accepted(
    name: str, method: str, uri: str, certs: Path, tmp_path: Path
) -> None:
    signer = Party.of(certs, name)
    message = accepted(sign_with_program(signer.template(method, uri), signer, tmp_path), signer)
    assert (message.purpose, message.subject) == ("Aanslagbiljet & bijlage 2026 — één", "Uw aanslagbiljet")


@pytest.mark.parametrize("uri", ["", "#message"])
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_a_message_signed_by_python_xmlsec_is_accepted(name: str, method: str, uri: str, certs: Path) -> None:
    signer = Party.of(certs, name)
    message = accepted(sign_with_binding(signer.template(method, uri), signer), signer)
    assert (message.purpose, message.subject) == ("Aanslagbiljet & bijlage 2026 — één", "Uw aanslagbiljet")


@pytest.mark.parametrize("name", ["gemeente", "belasting"])
def test_a_message_that_we_sign_is_accepted_by_python_xmlsec(name: str, certs: Path) -> None:
    signer = Party.of(certs, name)
    root = etree.fromstring(signer.template("", "").encode())
    root.remove(root[-1])
    key = load_key(signer.key_file)
    body = sign_message(root, key, signer.certificate)
    assert_xmlsec_verifies(body, signer)
    with pytest.raises(xmlsec.VerificationError):
        assert_xmlsec_verifies(body.replace(b"102400", b"102401"), signer)


def load_key(file: Path) -> SigningKey:
    key = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, SigningKey)
    return key


def assert_xmlsec_verifies(body: bytes, signer: Party) -> None:
    """Verify with the other implementation; it raises where it does not agree."""
    root = etree.fromstring(body)
    xmlsec.tree.add_ids(root, ["Id"])
    context = xmlsec.SignatureContext()
    pem = signer.certificate.public_bytes(Encoding.PEM)
    context.key = xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatCertPem)
    context.verify(signature_of(root))
