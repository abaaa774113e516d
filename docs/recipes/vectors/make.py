#!/usr/bin/env python3
"""
Makes the vectors in this folder anew; needs xmlsec1, javac and java, and Python with what ../python/send.py needs.

Each recipe signs the same letter with a new key, which is thrown away. A vector is what the recipe would have sent as
the part `message`; `ec.pem` and `rsa.pem` are the certificates of the signers.
"""

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12
from cryptography.x509.oid import NameOID

HERE = Path(__file__).resolve().parent
RECIPES = HERE.parent
REFERENCE = "vector-1"
SETTINGS = {
    "PATH": os.environ["PATH"],
    "LC_ALL": "C.UTF-8",
    "GATEWAY_NAME": "gateway.dev.example",
    "SENDER_NUMBER": "0406798006",
    "SENDER_PROFILE": "burgerzaken",
    "SENDER_CERTIFICATE": "mine.pem",
    "SENDER_KEY": "mine.key",
    "SENDER_KEYSTORE": "mine.p12",
    "SENDER_KEYSTORE_PASSWORD_FILE": "mine.password",
    "LETTER_CATEGORY": "tax-assessment",
    "LETTER_PURPOSE": "Aanslagbiljet & bijlage <2026> — één",
    "LETTER_SUBJECT": 'Uw "aanslagbiljet"',
    "LETTER_LANGUAGE": "nl",
}


def main() -> None:
    """Write every vector and certificate."""
    keys: dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = {
        "ec": ec.generate_private_key(ec.SECP256R1()),
        "rsa": rsa.generate_private_key(public_exponent=65537, key_size=3072),
    }
    for kind, key in keys.items():
        certificate = certify(kind, key)
        (HERE / f"{kind}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        with tempfile.TemporaryDirectory() as folder:
            for recipe, vector in sign_with_each(Path(folder), key, certificate).items():
                (HERE / f"{recipe}-{kind}{vector.suffix}").write_bytes(vector.read_bytes())


def certify(kind: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> x509.Certificate:
    """Return a certificate that a key signs for itself."""
    now = datetime.now(UTC).replace(microsecond=0)
    name = x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "BE"), x509.NameAttribute(NameOID.COMMON_NAME, f"vector {kind}")]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=3653))
        .sign(key, hashes.SHA256())
    )


def sign_with_each(
    folder: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, certificate: x509.Certificate
) -> dict[str, Path]:
    """Return the file that each recipe signs."""
    (folder / "mine.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "mine.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "mine.password").write_text("mine")
    encryption = PrivateFormat.PKCS12.encryption_builder().build(b"mine")
    (folder / "mine.p12").write_bytes(
        pkcs12.serialize_key_and_certificates(b"mine", key, certificate, None, encryption)
    )
    run(folder, "javac", "-d", ".", str(RECIPES / "java" / "SendLetter.java"))
    property_ = "-Dcom.sun.org.apache.xml.internal.security.ignoreLineBreaks=false"
    commands = {
        "curl": (str(RECIPES / "curl" / "send.sh"),),
        "python": (sys.executable, str(RECIPES / "python" / "send.py")),
        "python-jws": (sys.executable, str(RECIPES / "python" / "send_jws.py")),
        "java": ("java", "SendLetter"),
        "java-line-breaks": ("java", property_, "SendLetter"),
    }
    signed: dict[str, Path] = {}
    for recipe, command in commands.items():
        run(folder, *command, REFERENCE, str(RECIPES / "recipient.txt"), str(HERE / "letter.pdf"), SENT_FOLDER=recipe)
        [signed[recipe]] = (folder / recipe / REFERENCE).iterdir()
    return signed


def run(folder: Path, *command: str, **settings: str) -> None:
    """Run a command in a folder; without GATEWAY_URL a recipe signs and does not send."""
    subprocess.run(command, cwd=folder, env=SETTINGS | settings, check=True)  # noqa: S603 - commands of our own


if __name__ == "__main__":
    main()
