"""What `load` takes and refuses: every mistake has its place and its fix, and all are told at once."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.config import (
    Address,
    ClientCa,
    Config,
    ConfigInvalid,
    EboxProvider,
    Environment,
    Identifiers,
    Limits,
    PrintRestProvider,
    Retention,
    Stores,
    Workers,
    describe,
    load,
)
from gateway.config.providers import AddressBox, CallRules
from gateway.domain.message import Channel
from gateway.domain.schedule import PollRules, RetryRules
from gateway.domain.status import DeliveryStatus
from gateway.errors import FieldError

Values = dict[str, Any]
Change = Callable[[Values, Mapping[str, Any]], Values]
Write = Callable[[str, Values], Path]
Mistakes = Callable[[Callable[[], object]], dict[str, str]]

BOSA, HOUSE = "providers/bosa", "providers/house-a"
PRODUCTION = {"gateway/environment": "production"}
DEVELOPMENT = {"gateway/environment": "development"}


@pytest.fixture
def loaded(minimal: Values, changed: Change, write: Write) -> Callable[[Mapping[str, Any]], Config]:
    """Load the least configuration with some places changed."""
    return lambda changes: load(write("gateway.toml", changed(minimal, changes)))


def test_the_least_configuration_has_the_documented_defaults(
    loaded: Callable[[Mapping[str, Any]], Config], tmp_path: Path
) -> None:
    config = loaded({})
    assert config.file == tmp_path / "gateway.toml"
    assert config.gateway.environment is Environment.TEST
    assert config.gateway.senders == tmp_path / "senders"
    assert config.gateway.categories == tmp_path / "categories.toml"
    assert config.gateway.staff == tmp_path / "staff.toml"
    assert config.gateway.security_matrix == tmp_path / "security-matrix.toml"
    assert config.intake.bind == Address("127.0.0.1", 8443)
    assert (config.intake.tls_minimum, config.intake.public_url) == ("1.3", None)
    assert config.portal.bind == Address("127.0.0.1", 8444)
    assert config.admin.socket == tmp_path / "state" / "admin.sock"
    assert config.ops.bind == Address("127.0.0.1", 9464)
    assert config.stores == Stores(
        ledger=f"sqlite://{tmp_path}/state/ledger.db",
        blobs=f"file://{tmp_path}/state/blobs",
        keyring=f"local:{tmp_path}/state/keyring",
        enclose_up_to_bytes=131_072,
    )
    assert config.client_cas == (
        ClientCa(name="ca-a", file=tmp_path / "ca-a.pem", crl_file=tmp_path / "ca-a.crl", revocation="hard-fail"),
    )
    assert (config.limits, config.retry, config.polling) == (Limits(), RetryRules(), PollRules())
    assert (config.retention, config.workers, config.identifiers) == (Retention(), Workers(), Identifiers())


def test_providers_have_the_documented_defaults(loaded: Callable[[Mapping[str, Any]], Config], tmp_path: Path) -> None:
    config = loaded({})
    assert config.providers == {
        "bosa": EboxProvider(
            name="bosa",
            base_url="https://ebox.example/v2",
            token_url="https://ebox.example/token",
            federation_url="https://ebox.example/federation",
            partition_url="https://ebox.example/partition",
            publish_path="publishMessage",
            search_path="searchMessageStatus",
            dialect="v2",
            client_id="us",
            key_file=tmp_path / "ebox.key",
            key_id=None,
            audience="https://ebox.example/token",
            registry_environment=None,
            representative=True,
            conflict_means="doubt",
            consent_check=True,
            recipients_at_once=20,
            max_documents=6,
            max_total_bytes=30_000_000,
            call=CallRules(),
        ),
        "house-a": PrintRestProvider(
            name="house-a",
            base_url="https://print.example/api",
            authorization="none",
            api_key_file=None,
            api_key_header="X-API-Key",
            address_box_mm=AddressBox(x=110, y=45, w=85, h=40),
            envelope=None,
            public_administration=True,
            status_map={},
            max_documents=20,
            max_total_bytes=30_000_000,
            call=CallRules(),
        ),
    }
    assert config.channels == {Channel.EBOX_CITIZEN: ("bosa",), Channel.PRINT: ("house-a",)}


@pytest.mark.parametrize(
    ("changes", "read", "wanted"),
    [
        ({"intake/bind": ":8443"}, lambda c: c.intake.bind, Address("127.0.0.1", 8443)),
        ({"intake/bind": "[::]:0"}, lambda c: c.intake.bind, Address("::", 0)),
        ({"intake/bind": "localhost:1"}, lambda c: c.intake.bind, Address("localhost", 1)),
        ({"intake/tls_minimum": "1.2"}, lambda c: c.intake.tls_minimum, "1.2"),
        ({"intake/public_url": "https://g.example:8443/"}, lambda c: c.intake.public_url, "https://g.example:8443"),
        ({"stores/ledger": "sqlite:data/l.db"}, lambda c: c.stores.ledger, "sqlite://{folder}/data/l.db"),
        ({"stores/ledger": "sqlite:///data/l.db"}, lambda c: c.stores.ledger, "sqlite:///data/l.db"),
        ({"stores/blobs": "file:../b"}, lambda c: c.stores.blobs, "file://{above}/b"),
        ({"stores/keyring": "local:/k"}, lambda c: c.stores.keyring, "local:/k"),
        ({"stores/enclose_up_to_bytes": 0}, lambda c: c.stores.enclose_up_to_bytes, 0),
        ({"stores/enclose_up_to_bytes": 524_288}, lambda c: c.stores.enclose_up_to_bytes, 524_288),
        ({"limits/created_at_past": "P1DT2H3M4S"}, lambda c: c.limits.created_at_past, timedelta(seconds=93_784)),
        ({"retry/first_delay_s": 2}, lambda c: c.retry, RetryRules(first_delay_s=2.0)),
        ({"polling/read_status_s": [1, 2.5]}, lambda c: c.polling, PollRules(read_status_s=(1.0, 2.5))),
        ({"identifiers/allow_test_ssin": True}, lambda c: c.identifiers.allow_test_ssin, True),
        ({f"{BOSA}/conflict_means": "accepted"}, lambda c: c.providers["bosa"].conflict_means, "accepted"),
        ({f"{HOUSE}/concurrency": 1}, lambda c: c.providers["house-a"].call, CallRules(concurrency=1)),
        (
            {f"{HOUSE}/status_map": {"SENT OUT": "dispatched"}},
            lambda c: c.providers["house-a"].status_map,
            {"SENT OUT": DeliveryStatus.DISPATCHED},
        ),
        (
            {f"{BOSA}/consent_check": False, f"{BOSA}/federation_url": ...},
            lambda c: c.providers["bosa"].federation_url,
            None,
        ),
        (
            {"client_cas/0/crl_file": ..., "client_cas/0/revocation": "soft-fail"},
            lambda c: c.client_cas[0].crl_file,
            None,
        ),
        (
            DEVELOPMENT | {"portal": {"public_url": "http://localhost:8444"}},
            lambda c: (c.portal.public_url, c.portal.certificate, c.portal.key_file),
            ("http://localhost:8444", None, None),
        ),
    ],
)
def test_what_a_file_states_is_what_is_read(
    loaded: Callable[[Mapping[str, Any]], Config],
    tmp_path: Path,
    changes: Values,
    read: Callable[[Config], object],
    wanted: object,
) -> None:
    if isinstance(wanted, str):
        wanted = wanted.format(folder=tmp_path, above=tmp_path.parent)
    assert read(loaded(changes)) == wanted


def test_paths_start_at_the_folder_of_the_file(minimal: Values, changed: Change, write: Write, tmp_path: Path) -> None:
    file = write(
        "etc/gateway.toml", changed(minimal, {"gateway/state": "../state", "gateway/staff": "/srv/staff.toml"})
    )
    config = load(file)
    assert config.gateway.state == tmp_path / "state"
    assert config.gateway.staff == Path("/srv/staff.toml")
    assert config.intake.key_file == tmp_path / "etc" / "server.key"


def test_links_to_files_are_kept_so_that_their_targets_may_change(
    loaded: Callable[[Mapping[str, Any]], Config], tmp_path: Path
) -> None:
    (tmp_path / "first.key").touch()
    (tmp_path / "server.key").symlink_to("first.key")
    assert loaded({}).intake.key_file == tmp_path / "server.key"


# Each row: what is changed, where the mistake is told, and words of its fix. Only that one mistake may be told.
MISTAKES: list[tuple[Values, str, str]] = [
    # shape
    ({"intkae": {"bind": ":1"}}, "intkae", "did you mean intake?"),
    ({"intake/bnid": ":1"}, "intake.bnid", "did you mean bind?"),
    ({"gateway/zzz": 1}, "gateway.zzz", "known are: name, environment"),
    ({"providers/bosa/x y": 1}, 'providers.bosa."x y"', "is not known here"),
    ({"client_cas/0/crl_url": "https://a.example/crl"}, "client_cas[0].crl_url", "did you mean crl_file?"),
    ({"ops": "x"}, "ops", "must be a table, not text"),
    ({"intake": [1]}, "intake", "must be a table, not an array"),
    ({"client_cas": {"name": "x"}}, "client_cas", "must be tables, each headed [[client_cas]]"),
    ({"channels/print": "house-a"}, "channels.print", "must be an array, not text"),
    ({"channels/print": []}, "channels.print", "at least one value"),
    ({"channels/print": ["house-a", "house-a"]}, "channels.print[1]", "twice"),
    # presence
    ({"gateway/name": ...}, "gateway.name", "is missing"),
    ({"gateway/environment": ...}, "gateway.environment", "is missing"),
    ({"gateway/state": ...}, "gateway.state", "is missing"),
    ({"intake/certificate": ...}, "intake.certificate", "is missing"),
    ({"receipts/key_file": ...}, "receipts.key_file", "is missing"),
    ({"client_cas": ...}, "client_cas", "no sender gets in"),
    ({"client_cas/0/crl_file": ...}, "client_cas[0].crl_file", 'only revocation = "soft-fail"'),
    ({"portal/public_url": ...}, "portal.public_url", "is missing"),
    ({"portal/key_file": ...}, "portal.key_file", "go together"),
    ({"portal/certificate": ...}, "portal.certificate", "go together"),
    ({"portal/certificate": ..., "portal/key_file": ...}, "portal.certificate", "for development only"),
    ({f"{BOSA}/federation_url": ...}, "providers.bosa.federation_url", "consent_check asks it"),
    ({f"{BOSA}/partition_url": ...}, "providers.bosa.partition_url", "asks it for the mandates"),
    ({f"{BOSA}/client_id": ...}, "providers.bosa.client_id", "is missing"),
    ({f"{BOSA}/adapter": ...}, "providers.bosa.adapter", "is missing"),
    ({f"{HOUSE}/authorization": "api-key"}, "providers.house-a.api_key_file", "is missing"),
    ({f"{HOUSE}/api_key_file": "k"}, "providers.house-a.api_key_file", "would not be used"),
    ({"channels": {}}, "channels", "at least one channel"),
    # types
    ({"gateway/name": 1}, "gateway.name", "must be text in quotes, not a whole number"),
    ({"gateway/state": ["x"]}, "gateway.state", "must be text in quotes, not an array"),
    ({"limits/documents": "20"}, "limits.documents", "must be a whole number, not text"),
    ({"limits/documents": 20.0}, "limits.documents", "must be a whole number, not a number"),
    ({"limits/documents": True}, "limits.documents", "must be a whole number, not true or false"),
    ({"workers/poll_s": True}, "workers.poll_s", "must be a number, not true or false"),
    ({"workers/poll_s": "1"}, "workers.poll_s", "must be a number, not text"),
    ({"identifiers/allow_test_ssin": 1}, "identifiers.allow_test_ssin", "must be true or false"),
    ({"limits/header_timeout": 15}, "limits.header_timeout", "must be text in quotes"),
    # words
    ({"gateway/name": "Gate way"}, "gateway.name", "like a host name"),
    ({"gateway/name": " gateway"}, "gateway.name", "without spaces around"),
    ({"gateway/environment": "prod"}, "gateway.environment", "development, test, production"),
    ({"intake/tls_minimum": "1.1"}, "intake.tls_minimum", "1.3, 1.2"),
    ({"client_cas/0/name": "CA"}, "client_cas[0].name", "a-z 0-9 -"),
    ({"client_cas/0/revocation": "off"}, "client_cas[0].revocation", "hard-fail, soft-fail"),
    ({f"{BOSA}/adapter": "sftp"}, "providers.bosa.adapter", "ebox, print_rest"),
    ({f"{BOSA}/dialect": "v3"}, "providers.bosa.dialect", "v2"),
    ({f"{BOSA}/conflict_means": "sent"}, "providers.bosa.conflict_means", "doubt, accepted"),
    ({f"{BOSA}/publish_path": "/publish"}, "providers.bosa.publish_path", "without a slash at its ends"),
    ({f"{BOSA}/client_id": "a\nb"}, "providers.bosa.client_id", "one line"),
    ({f"{BOSA}/client_id": "e\u0301"}, "providers.bosa.client_id", "NFC"),
    ({f"{BOSA}/registry_environment": "acceptance"}, "providers.bosa.registry_environment", "acceptation"),
    ({f"{HOUSE}/api_key_header": "X Key"}, "providers.house-a.api_key_header", "HTTP header"),
    ({f"{HOUSE}/status_map": {"SENT": "sent"}}, "providers.house-a.status_map.SENT", "dispatched"),
    ({f"{HOUSE}/status_map": {"SENT": "in-doubt"}}, "providers.house-a.status_map.SENT", "must be one of"),
    ({f"{HOUSE}/status_map": {"": "lost"}}, 'providers.house-a.status_map.""', "the name of this key"),
    ({"providers/House": {}}, "providers.House", "a-z 0-9 -"),
    ({"channels/email": ["bosa"]}, "channels.email", "ebox-citizen, ebox-enterprise, print"),
    # numbers
    ({"limits/documents": 0}, "limits.documents", "from 1 to 100"),
    ({"limits/documents": 101}, "limits.documents", "from 1 to 100"),
    ({f"{BOSA}/max_documents": 7}, "providers.bosa.max_documents", "from 1 to 6"),
    ({"workers/poll_s": float("nan")}, "workers.poll_s", "from 0.05 to 60"),
    ({"retry/jitter": float("inf")}, "retry.jitter", "from 0 to 0.9"),
    ({"retry/first_delay_s": 30_000}, "retry.first_delay_s", "longest_delay_s"),
    ({"retry/longest_delay_s": 604_800}, "retry.longest_delay_s", "decide_after_s"),
    ({"polling/read_status_s": [2, 1]}, "polling.read_status_s", "must go up"),
    ({"workers/lease_s": 5, "workers/poll_s": 5}, "workers.poll_s", "shorter than lease_s"),
    ({"limits/requests_in_flight": 1001}, "limits.requests_in_flight", "not be more than connections"),
    ({"limits/questions_in_flight": 0}, "limits.questions_in_flight", "from 1 to 100000"),
    ({"stores/enclose_up_to_bytes": -1}, "stores.enclose_up_to_bytes", "from 0 to 524288"),
    ({"stores/enclose_up_to_bytes": 524_289}, "stores.enclose_up_to_bytes", "from 0 to 524288"),
    ({"limits/sender_requests_per_s": 0}, "limits.sender_requests_per_s", "from 0.01 to 100000"),
    ({"limits/sender_burst": 0}, "limits.sender_burst", "from 1 to 1000000"),
    ({"limits/bytes_in_flight": 30_606_207}, "limits.bytes_in_flight", "as large as may be, so at least 30606208"),
    ({"limits/message_bytes": 1_073_741_824}, "limits.bytes_in_flight", "as large as may be, so at least 1074348032"),
    ({f"{HOUSE}/connect_timeout_s": 61}, "providers.house-a.connect_timeout_s", "attempt_timeout_s"),
    ({f"{HOUSE}/address_box_mm": {"x": 130}}, "providers.house-a.address_box_mm", "beyond the page"),
    ({f"{HOUSE}/address_box_mm": {"y": -1}}, "providers.house-a.address_box_mm.y", "from 0 to 297"),
    # durations
    ({"retention/keep_undelivered": "30"}, "retention.keep_undelivered", "like P90D"),
    ({"retention/keep_undelivered": "P1M"}, "retention.keep_undelivered", "no years, months, weeks"),
    ({"retention/keep_undelivered": "P"}, "retention.keep_undelivered", "like P90D"),
    ({"retention/keep_undelivered": "P1DT"}, "retention.keep_undelivered", "like P90D"),
    ({"retention/keep_undelivered": "P0D"}, "retention.keep_undelivered", "from P1D to P3650D"),
    ({"limits/body_stall": "PT1.5S"}, "limits.body_stall", "like P90D"),
    ({"limits/body_stall": "PT2H"}, "limits.body_stall", "from PT1S to PT1H"),
    # addresses and URIs
    ({"intake/bind": "8443"}, "intake.bind", "an address and a port"),
    ({"intake/bind": "127.0.0.1:65536"}, "intake.bind", "an address and a port"),
    ({"intake/bind": "300.0.0.1:1"}, "intake.bind", "IP address or host"),
    ({"intake/bind": "[1.2.3]:1"}, "intake.bind", "IP address or host"),
    ({"intake/bind": "-a:1"}, "intake.bind", "IP address or host"),
    ({"intake/public_url": "http://g.example"}, "intake.public_url", "must begin with https://"),
    ({"portal/public_url": "http://p.example"}, "portal.public_url", "must begin with https://"),
    ({f"{BOSA}/base_url": "ftp://e.example"}, "providers.bosa.base_url", "https:// or http://"),
    ({f"{BOSA}/base_url": "https://"}, "providers.bosa.base_url", "like https://host.example/path"),
    ({f"{BOSA}/base_url": "https://[e"}, "providers.bosa.base_url", "not a URL"),
    ({f"{BOSA}/base_url": "https://e.example:99999"}, "providers.bosa.base_url", "not a URL"),
    ({f"{BOSA}/base_url": "https://u:p@e.example"}, "providers.bosa.base_url", "credentials"),
    ({f"{BOSA}/base_url": "https://e.example/?a=b"}, "providers.bosa.base_url", "query"),
    ({f"{BOSA}/base_url": "https://é.example/"}, "providers.bosa.base_url", "ASCII"),
    ({"stores/ledger": "postgresql://db.example/gateway"}, "stores.ledger", "name the role and the database"),
    ({"stores/ledger": "postgresql://gateway:secret@db.example/gateway"}, "stores.ledger", "must not hold a password"),
    ({"stores/ledger": "mysql://gateway@db.example/gateway"}, "stores.ledger", "sqlite:///absolute/path"),
    ({"stores/ledger": "ledger.db"}, "stores.ledger", "sqlite:///absolute/path"),
    ({"stores/ledger": "sqlite://host/ledger.db"}, "stores.ledger", "names a host"),
    ({"stores/blobs": "file:"}, "stores.blobs", "must hold a path"),
    ({"stores/keyring": "local:/k?mode=rw"}, "stores.keyring", "without any of"),
    ({"admin/socket": "s" * 108}, "admin.socket", "at most 107 bytes"),
    ({"intake/key_file": ""}, "intake.key_file", "path of a file"),
    # what refers to something else
    ({"channels/print": ["house-b"]}, "channels.print", "no [providers.house-b]"),
    ({"channels/print": ["bosa"]}, "channels.print", "does not serve this channel"),
    ({"channels/ebox-enterprise": ["house-a"]}, "channels.ebox-enterprise", "does not serve this channel"),
    # production
    (
        PRODUCTION | {"stores/ledger": "postgresql://g@db.example/l?sslmode=disable"},
        "stores.ledger",
        "must not say sslmode=disable in production",
    ),
    (PRODUCTION | {f"{BOSA}/base_url": "http://e.example"}, "providers.bosa.base_url", "must begin with https://"),
    (PRODUCTION | {f"{BOSA}/token_url": "http://e.example"}, "providers.bosa.token_url", "must begin with https://"),
    (PRODUCTION | {f"{HOUSE}/base_url": "http://p.example"}, "providers.house-a.base_url", "must begin with https://"),
    (PRODUCTION | {"identifiers/allow_test_ssin": True}, "identifiers.allow_test_ssin", "must be false in production"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "pointer", "words"), MISTAKES, ids=[f"{row[1]}-{number}" for number, row in enumerate(MISTAKES)]
)
def test_a_mistake_is_told_with_its_place_and_its_fix(
    loaded: Callable[[Mapping[str, Any]], Config], mistakes: Mistakes, changes: Values, pointer: str, words: str
) -> None:
    told = mistakes(lambda: loaded(changes))
    assert list(told) == [f"gateway.toml: {pointer}"]
    assert words in told[f"gateway.toml: {pointer}"]


def test_two_authorities_of_one_name_are_refused(
    minimal: Values, changed: Change, write: Write, mistakes: Mistakes
) -> None:
    minimal["client_cas"] *= 2
    assert list(mistakes(lambda: load(write("g.toml", minimal)))) == ["g.toml: client_cas[1].name"]


def test_all_mistakes_are_told_at_once(loaded: Callable[[Mapping[str, Any]], Config], mistakes: Mistakes) -> None:
    told = mistakes(
        lambda: loaded(
            {
                "gateway/name": ...,
                "intake/bind": "x",
                "client_cas/0/revocation": "never",
                "providers/bosa/adapter": "fax",
                "channels/print": ["house-b", 7],
                "limits/documents": "many",
                "retry/first_dealy_s": 1,
                "colour": "green",
            }
        )
    )
    assert {pointer.removeprefix("gateway.toml: ") for pointer in told} == {
        "gateway.name", "intake.bind", "client_cas[0].revocation", "providers.bosa.adapter", "channels.print",
        "channels.print[1]", "limits.documents", "retry.first_dealy_s", "colour",
    }  # fmt: skip


def test_every_missing_key_of_an_empty_file_is_told(write: Write, mistakes: Mistakes) -> None:
    told = mistakes(lambda: load(write("g.toml", {})))
    assert {pointer.removeprefix("g.toml: ") for pointer in told} == {
        "gateway.name", "gateway.environment", "gateway.state", "intake.certificate", "intake.key_file",
        "receipts.certificate", "receipts.key_file", "client_cas", "portal.public_url", "channels",
    }  # fmt: skip


def test_a_refused_value_is_not_repeated(loaded: Callable[[Mapping[str, Any]], Config]) -> None:
    secret = "correct-horse-battery"
    changes = {
        "providers/bosa/base_url": f"https://us:{secret}@e.example",
        "stores/ledger": f"postgresql://gateway:{secret}@h/d",
    }
    with pytest.raises(ConfigInvalid) as caught:
        loaded(changes | {"workers/count": secret, "gateway/environment": secret, "intake/bind": secret})
    assert len(caught.value.errors) == 5
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"a = = 1", "is not TOML: Invalid value (at line 1, column 5)"),
        (b"a = '\xff'", "is not UTF-8: byte 5"),
        (b"#" * (4 * 1024 * 1024 + 1), "is larger than"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(
    tmp_path: Path, mistakes: Mistakes, content: bytes | None, words: str
) -> None:
    file = tmp_path / "gateway.toml"
    if content is not None:
        file.write_bytes(content)
    told = mistakes(lambda: load(file))
    assert list(told) == ["gateway.toml"]
    assert words in told["gateway.toml"]


def test_pointers_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    file = write("config/gateway.toml", {})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigInvalid) as caught:
        load(file)
    assert caught.value.errors[0].pointer == "config/gateway.toml: gateway.name"


def test_mistakes_are_described_for_people() -> None:
    first = FieldError(pointer="a.toml: x.y", detail="is missing")
    second = FieldError(pointer="b.toml", detail="cannot be read")
    assert describe([]) == "no mistakes found"
    assert describe([first]) == "1 mistake:\n  a.toml: x.y\n      is missing"
    assert describe([first, second]).splitlines()[0] == "2 mistakes:"
    assert str(ConfigInvalid([first])) == describe([first])
