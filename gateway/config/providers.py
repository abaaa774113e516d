"""The outside services that take deliveries: `[providers.<name>]` and `[channels]` of the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from gateway.config.reader import Table
from gateway.config.values import BOOLEAN, Kind, choice, integer, number, of_text, path_in, text
from gateway.domain.ids import parse_slug
from gateway.domain.message import Channel
from gateway.domain.routing import DEFAULT_CAPABILITIES
from gateway.domain.status import DeliveryStatus

ConflictMeans = Literal["doubt", "accepted"]
PrintAuthorization = Literal["none", "api-key"]

_EBOX: Final = DEFAULT_CAPABILITIES[Channel.EBOX_CITIZEN]
_PRINT: Final = DEFAULT_CAPABILITIES[Channel.PRINT]
_LARGEST_BYTES: Final = 1_073_741_824
_LONGEST_S: Final = 3_600.0
_PAGE_WIDTH_MM: Final = 210  # A4
_PAGE_HEIGHT_MM: Final = 297
# States before or beside hand-over are the gateway's own; a provider's word never maps to them.
_FROM_PROVIDER: Final = tuple(
    status
    for status in DeliveryStatus
    if status not in (DeliveryStatus.WAITING, DeliveryStatus.DISPATCHING, DeliveryStatus.IN_DOUBT)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRules:
    """How a provider is called; its keys stand in the provider's own table."""

    attempt_timeout_s: float = 60.0  # hard end of one call, whatever happens
    settle_s: float = 30.0  # how long after that end the provider may still be working on it
    connect_timeout_s: float = 10.0
    concurrency: int = 8  # calls at the same time
    calls_per_s: float | None = None  # None: as fast as they come
    ca_file: Path | None = None  # trust only these authorities; None: those of the system


@dataclass(frozen=True, slots=True, kw_only=True)
class EboxProvider:
    """An e-Box message registry."""

    name: str
    base_url: str
    token_url: str
    federation_url: str | None  # where consents and preferences are asked
    partition_url: str | None  # where mandates are asked
    publish_path: str  # below base_url
    search_path: str
    dialect: Literal["v2"]
    client_id: str
    key_file: Path  # RSA, signs the client assertion
    key_id: str | None  # named in the client assertion
    audience: str  # of the client assertion
    registry_environment: str | None  # what the registry calls itself; its errors must come from there
    representative: bool  # publish on behalf of senders, or only as ourselves
    conflict_means: ConflictMeans  # what 409 on a repeated key proves
    consent_check: bool
    recipients_at_once: int  # asked about with one call
    max_documents: int
    max_total_bytes: int
    call: CallRules


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressBox:
    """Where the window of the envelope shows the page, in millimetres from its upper left corner."""

    x: float = 110.0
    y: float = 45.0
    w: float = 85.0
    h: float = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintRestProvider:
    """A print house with a REST interface. `status_map` turns words of its own into delivery states."""

    name: str
    base_url: str
    authorization: PrintAuthorization
    api_key_file: Path | None
    api_key_header: str
    address_box_mm: AddressBox
    envelope: str | None
    public_administration: bool
    status_map: Mapping[str, DeliveryStatus]
    max_documents: int
    max_total_bytes: int
    call: CallRules


Provider = EboxProvider | PrintRestProvider

ADAPTERS: Final[Mapping[str, tuple[Channel, ...]]] = {
    "ebox": (Channel.EBOX_CITIZEN, Channel.EBOX_ENTERPRISE),
    "print_rest": (Channel.PRINT,),
}
PROVIDER_NAME: Final = of_text(parse_slug, "blank")
# As the error model of the message registry lists them.
_REGISTRY_ENVIRONMENTS: Final = ("development", "test", "integration", "acceptation", "simulation", "production")
_ADAPTER: Final = replace(choice(tuple(ADAPTERS)), blank="")
_CHANNEL: Final = choice(tuple(Channel))
_PATH: Final = text(pattern=r"[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*", fix="must be a path without a slash at its ends")
_HEADER: Final = text(longest=64, pattern=r"[A-Za-z0-9-]+", fix="must be the name of an HTTP header")


def read_providers(tables: Table, url: Kind[str]) -> tuple[dict[str, Provider], dict[str, str]]:
    """Return the providers by name, their addresses read as `url`, and the adapter of each, also of unreadable ones."""
    providers: dict[str, Provider] = {}
    adapters: dict[str, str] = {}
    for written, name in tables.names(PROVIDER_NAME):
        table = tables.table(written)
        adapter = adapters[name] = table.required("adapter", _ADAPTER)
        if adapter == "ebox":
            providers[name] = _ebox(name, table, url)
        elif adapter == "print_rest":
            providers[name] = _print_rest(name, table, url)
        else:
            table.accept_rest()
    return providers, adapters


def read_channels(table: Table, adapters: Mapping[str, str]) -> dict[Channel, tuple[str, ...]]:
    """Return the providers of each channel in the order of preference; each must exist and serve that channel."""
    channels: dict[Channel, tuple[str, ...]] = {}
    for written, channel in table.names(_CHANNEL):
        names = table.required_list(written, PROVIDER_NAME)
        for name in names:
            adapter = adapters.get(name)
            if adapter is None:
                table.wrong(written, f"no [providers.{name}] is configured")
            elif adapter and channel not in ADAPTERS[adapter]:
                table.wrong(written, f"provider {name} has the adapter {adapter}, which does not serve this channel")
        channels[channel] = names
    if not channels:
        table.wrong(None, f"must name the providers of at least one channel: {', '.join(Channel)}")
    return channels


def _ebox(name: str, table: Table, url: Kind[str]) -> EboxProvider:
    token_url = table.required("token_url", url)
    consent_check = table.optional("consent_check", BOOLEAN, default=True)
    federation_url = table.optional("federation_url", url, None)
    if consent_check and federation_url is None:
        table.wrong("federation_url", "is missing; consent_check asks it")
    representative = table.optional("representative", BOOLEAN, default=True)
    partition_url = table.optional("partition_url", url, None)
    if representative and partition_url is None:
        table.wrong("partition_url", "is missing; representative asks it for the mandates of senders")
    dialects: tuple[Literal["v2"], ...] = ("v2",)
    conflicts: tuple[ConflictMeans, ...] = ("doubt", "accepted")
    return EboxProvider(
        name=name,
        base_url=table.required("base_url", url),
        token_url=token_url,
        federation_url=federation_url,
        partition_url=partition_url,
        publish_path=table.optional("publish_path", _PATH, "publishMessage"),
        search_path=table.optional("search_path", _PATH, "searchMessageStatus"),
        dialect=table.optional("dialect", choice(dialects), "v2"),
        client_id=table.required("client_id", text()),
        key_file=table.required("key_file", path_in(table.folder)),
        key_id=table.optional("key_id", text(), None),
        audience=table.optional("audience", text(), token_url),
        registry_environment=table.optional("registry_environment", choice(_REGISTRY_ENVIRONMENTS), None),
        representative=representative,
        conflict_means=table.optional("conflict_means", choice(conflicts), "doubt"),
        consent_check=consent_check,
        recipients_at_once=table.optional("recipients_at_once", integer(1, 100), 20),
        max_documents=table.optional("max_documents", integer(1, _EBOX.max_documents), _EBOX.max_documents),
        max_total_bytes=table.optional("max_total_bytes", integer(1, _LARGEST_BYTES), _EBOX.max_total_bytes),
        call=_call_rules(table),
    )


def _print_rest(name: str, table: Table, url: Kind[str]) -> PrintRestProvider:
    ways: tuple[PrintAuthorization, ...] = ("none", "api-key")
    authorization: PrintAuthorization = table.optional("authorization", choice(ways), "none")
    api_key_file = table.optional("api_key_file", path_in(table.folder), None)
    if authorization == "api-key" and api_key_file is None:
        table.wrong("api_key_file", 'is missing; authorization = "api-key" sends the key in it')
    if authorization == "none" and api_key_file is not None:
        table.wrong("api_key_file", 'would not be used; set authorization = "api-key", or leave it out')
    return PrintRestProvider(
        name=name,
        base_url=table.required("base_url", url),
        authorization=authorization,
        api_key_file=api_key_file,
        api_key_header=table.optional("api_key_header", _HEADER, "X-API-Key"),
        address_box_mm=_address_box(table.table("address_box_mm")),
        envelope=table.optional("envelope", text(longest=50), None),
        public_administration=table.optional("public_administration", BOOLEAN, default=True),
        status_map=table.mapping("status_map", text(longest=64), choice(_FROM_PROVIDER)),
        max_documents=table.optional("max_documents", integer(1, 100), _PRINT.max_documents),
        max_total_bytes=table.optional("max_total_bytes", integer(1, _LARGEST_BYTES), _PRINT.max_total_bytes),
        call=_call_rules(table),
    )


def _address_box(table: Table) -> AddressBox:
    usual = AddressBox()
    box = AddressBox(
        x=table.optional("x", number(0, _PAGE_WIDTH_MM), usual.x),
        y=table.optional("y", number(0, _PAGE_HEIGHT_MM), usual.y),
        w=table.optional("w", number(10, _PAGE_WIDTH_MM), usual.w),
        h=table.optional("h", number(10, _PAGE_HEIGHT_MM), usual.h),
    )
    if box.x + box.w > _PAGE_WIDTH_MM or box.y + box.h > _PAGE_HEIGHT_MM:
        table.wrong(None, f"reaches beyond the page, which is {_PAGE_WIDTH_MM} mm wide and {_PAGE_HEIGHT_MM} mm high")
    return box


def _call_rules(table: Table) -> CallRules:
    usual = CallRules()
    rules = CallRules(
        attempt_timeout_s=table.optional("attempt_timeout_s", number(1, _LONGEST_S), usual.attempt_timeout_s),
        settle_s=table.optional("settle_s", number(0, _LONGEST_S), usual.settle_s),
        connect_timeout_s=table.optional("connect_timeout_s", number(0.1, _LONGEST_S), usual.connect_timeout_s),
        concurrency=table.optional("concurrency", integer(1, 1_000), usual.concurrency),
        calls_per_s=table.optional("calls_per_s", number(0.01, 10_000), usual.calls_per_s),
        ca_file=table.optional("ca_file", path_in(table.folder), None),
    )
    if rules.connect_timeout_s > rules.attempt_timeout_s:
        table.wrong("connect_timeout_s", "must not be longer than attempt_timeout_s")
    return rules
