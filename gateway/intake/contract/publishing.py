"""Makes the files of the contract, once, when the gateway starts."""

import json
from importlib.resources import files
from typing import Final

from gateway.config import Config
from gateway.crypto.dialects import Dialect
from gateway.intake.contract.facts import Facts
from gateway.intake.contract.files import Contract, PublishedFile
from gateway.intake.contract.openapi import build_openapi
from gateway.intake.contract.page import content_security_policy, read_style, render_page
from gateway.intake.routes import ROUTES

_XML: Final = "application/xml"
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
    example = here.joinpath("message_example.xml").read_bytes()
    token = here.joinpath("message_example.jws").read_bytes()
    style = read_style()
    page = render_page(document, example.decode(), token.decode(), style)
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
        "message.schema.json": PublishedFile(
            content=here.joinpath("message_schema.json").read_bytes(), media_type="application/schema+json"
        ),
        "examples/message.xml": PublishedFile(content=example, media_type=Dialect.XML.media_type),
        "examples/message.jws": PublishedFile(content=token, media_type=Dialect.JWS.media_type),
        **{name: PublishedFile(content=crypto.joinpath(name).read_bytes(), media_type=_XML) for name in _XML_SCHEMAS},
    }
