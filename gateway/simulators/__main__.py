"""`python -m gateway.simulators`: the simulators as a process of their own, for crash runs, load runs and the demo."""

import argparse
import asyncio
import json
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.ebox_settings import DEMO_CLIENT_ID, DEMO_ORGANISATION, DEMO_TRIPLES, Triple
from gateway.simulators.print_house import DEMO_API_KEY, PrintHouseSimulator
from gateway.simulators.serve import LOOPBACK, Address, Simulators, run, server_tls
from gateway.simulators.tokens import Client
from gateway.simulators.webhooks import WebhookSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code, 0 after a clean stop."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        simulators = _simulators(options)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    asyncio.run(_serve(simulators, ready_json=options.ready_json))
    return 0


async def _serve(simulators: Simulators, *, ready_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def ready(served: Simulators) -> None:
        urls = {"ebox": served.ebox_url, "print": served.print_url}
        line = json.dumps(urls) if ready_json else f"e-Box {urls['ebox']}, print house {urls['print']}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    await run(simulators, ready=ready, stop=stop)


def _simulators(options: argparse.Namespace) -> Simulators:
    """Read the files that the options name and build both simulators."""
    clients = []
    if options.ebox_client_key is not None:
        clients.append(
            Client(
                client_id=options.ebox_client_id,
                public_key=load_public_key(options.ebox_client_key),
                organisation=options.ebox_client_organisation,
            )
        )
    webhooks = None
    if options.webhook_secret_file is not None:
        webhooks = WebhookSettings(
            secret=options.webhook_secret_file.read_text().strip(),
            tls=ssl.create_default_context(cafile=options.webhook_ca) if options.webhook_ca else None,
        )
    api_key = DEMO_API_KEY
    if options.print_api_key_file is not None:
        api_key = options.print_api_key_file.read_text().strip()
    tls = None
    if options.certificate is not None:
        tls = server_tls(options.certificate, options.key or options.certificate)
    return Simulators(
        ebox=EboxSimulator(
            clients=clients,
            triples=options.ebox_triple or DEMO_TRIPLES,
            advance=options.advance,
            keep_bytes=options.keep_bytes,
        ),
        print_house=PrintHouseSimulator(
            api_key=api_key, advance=options.advance, webhooks=webhooks, keep_bytes=options.keep_bytes
        ),
        ebox_address=options.ebox,
        print_address=options.print,
        tls=tls,
    )


def load_public_key(file: Path) -> RSAPublicKey:
    """
    Return the RSA key of a PEM file that holds a certificate or a public key.

    Raises:
        ValueError: the file holds neither, or another kind of key.
    """
    pem = file.read_bytes()
    if b"BEGIN CERTIFICATE" in pem:
        key = x509.load_pem_x509_certificate(pem).public_key()
        if isinstance(key, RSAPublicKey):
            return key
    else:
        loaded = load_pem_public_key(pem)
        if isinstance(loaded, RSAPublicKey):
            return loaded
    raise ValueError(f"{file.name} holds no RSA key, which RS256 needs")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway.simulators", description=__doc__)
    parser.add_argument("--ebox", type=_address, default=LOOPBACK, metavar="HOST:PORT")
    parser.add_argument("--print", type=_address, default=LOOPBACK, metavar="HOST:PORT")
    parser.add_argument("--ready-json", action="store_true", help="print the base URLs as one line of JSON")
    parser.add_argument("--certificate", type=Path, help="PEM certificate chain: serve https")
    parser.add_argument("--key", type=Path, help="PEM key of the certificate, if in a file of its own")
    parser.add_argument("--advance", choices=("on-poll", "manual"), default="on-poll")
    parser.add_argument("--keep-bytes", action="store_true", help="keep every document, for /_simulator/documents")
    parser.add_argument("--ebox-client-key", type=Path, help="certificate or public key of the OAuth client")
    parser.add_argument("--ebox-client-id", default=DEMO_CLIENT_ID)
    parser.add_argument("--ebox-client-organisation", default=DEMO_ORGANISATION, metavar="NUMBER")
    parser.add_argument(
        "--ebox-triple",
        type=_triple,
        action="append",
        metavar="ORGANISATION,APPLICATION,TYPE,KIND",
        help="configured combination instead of the demo's; organisation * is any, kind is enterprise or citizen",
    )
    parser.add_argument("--print-api-key-file", type=Path)
    parser.add_argument("--webhook-secret-file", type=Path, help="switches webhooks of the print house on")
    parser.add_argument("--webhook-ca", type=Path, help="PEM authorities that webhook receivers are trusted by")
    return parser


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise argparse.ArgumentTypeError("HOST:PORT is expected")
    return host.strip("[]"), int(port)


def _triple(text: str) -> Triple:
    organisation, application, message_type, kind = (*text.split(","), "", "", "", "")[:4]
    if kind not in ("enterprise", "citizen"):
        raise argparse.ArgumentTypeError("ORGANISATION,APPLICATION,TYPE,KIND is expected")
    return Triple(
        organisation=None if organisation == "*" else organisation,
        application=application,
        message_type=message_type,
        recipient_type="enterprise" if kind == "enterprise" else "citizen",
    )


if __name__ == "__main__":
    sys.exit(main())
