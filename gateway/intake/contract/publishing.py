"""Makes the files of the contract, once, when the gateway starts."""

import json
from importlib.resources import files
from typing import Final

from gateway.config import Config
from gateway.crypto.batches import ITEM_MEDIA_TYPES
from gateway.crypto.dialects import Dialect
from gateway.intake.contract.facts import Facts
from gateway.intake.contract.files import Contract, PublishedFile
from gateway.intake.contract.openapi import build_openapi
from gateway.intake.contract.page import content_security_policy, read_style, render_page
from gateway.intake.routes import ROUTES

_XML: Final = "application/xml"
_EXAMPLES: Final = {
    "message.xml": ("message_example.xml", Dialect.XML.media_type),
    "message.jws": ("message_example.jws", Dialect.JWS.media_type),
    "batch.xml": ("batch_example.xml", Dialect.XML.media_type),
    "batch.jws": ("batch_example.jws", Dialect.JWS.media_type),
    "batch-m1.xml": ("batch_example_m1.xml", ITEM_MEDIA_TYPES[Dialect.XML]),
    "batch-m1.json": ("batch_example_m1.json", ITEM_MEDIA_TYPES[Dialect.JWS]),
}
"""Each by the name under which it is published: its file, and its type."""
_XML_SCHEMAS: Final = ("message.xsd", "batch.xsd", "receipt.xsd", "xmldsig-subset.xsd")


def publish_for(config: Config, public_url: str) -> Contract:
    """Return every file for the gateway so configured, at that address. Blocks."""
    return publish(Facts.of(config, public_url))


def publish(facts: Facts) -> Contract:
    """
    Return every file. Reads templates and schemas: blocks.

    Raises:
        ValueError: the routes and the contract do not match.
    """
    document = build_openapi(ROUTES, facts)
    here, crypto = files("gateway.intake.contract"), files("gateway.crypto")
    examples = {name: here.joinpath(file).read_bytes() for name, (file, _) in _EXAMPLES.items()}
    style = read_style()
    page = render_page(document, {name: octets.decode() for name, octets in examples.items()}, style)
    return {
        "docs": PublishedFile(
            content=page.encode(),
            media_type="text/html; charset=utf-8",
            headers={
                "Content-Security-Policy": content_security_policy(style),
                "Content-Language": "en",
                "Referrer-Policy": "no-referrer",
            },
        ),
        "openapi.json": PublishedFile(
            content=json.dumps(document, indent=1, ensure_ascii=False).encode(), media_type="application/json"
        ),
        **{
            f"{what}.schema.json": PublishedFile(
                content=here.joinpath(f"{what}_schema.json").read_bytes(), media_type="application/schema+json"
            )
            for what in ("message", "batch")
        },
        **{
            f"examples/{name}": PublishedFile(content=octets, media_type=_EXAMPLES[name][1])
            for name, octets in examples.items()
        },
        **{name: PublishedFile(content=crypto.joinpath(name).read_bytes(), media_type=_XML) for name in _XML_SCHEMAS},
    }
