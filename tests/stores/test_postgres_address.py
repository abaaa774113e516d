"""The URI of a PostgreSQL ledger, and the file with its password."""

from pathlib import Path

import pytest

from gateway.errors import StoreUnavailable
from gateway.stores.postgres.addressing import ServerAddress, parse_address, read_password, tls_context


def test_everything_that_a_uri_can_say_is_read() -> None:
    assert parse_address(
        "postgresql://gate%2Dway@db1.example:6000,db2.example,[::1]:7000/led%2Dger?passfile=/p&sslrootcert=/ca&"
        "sslcert=/c&sslkey=/k&standby=required&pool_min=3&pool_max=20"
    ) == ServerAddress(
        hosts=(("db1.example", 6_000), ("db2.example", 5_432), ("::1", 7_000)),
        role="gate-way",
        database="led-ger",
        passfile=Path("/p"),
        ca_file=Path("/ca"),
        certificate=Path("/c"),
        key_file=Path("/k"),
        needs_standby=True,
        pool_min=3,
        pool_max=20,
    )
    assert parse_address("postgresql://g@/l?host=/run/postgresql&port=6000") == ServerAddress(
        hosts=(("/run/postgresql", 6_000),), role="g", database="l", is_encrypted=False
    )


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("postgres://g@h/l", "must be postgresql://role@host/database"),
        ("postgresql:/g@h/l", "must be postgresql://role@host/database"),
        ("postgresql://g@h/l#x", "must be postgresql://role@host/database"),
        ("postgresql://g@h/é", "ASCII"),
        ("postgresql://g@h/l l", "ASCII"),
        ("postgresql://h/l", "name the role and the database"),
        ("postgresql://@h/l", "name the role and the database"),
        ("postgresql://g@h", "name the role and the database"),
        ("postgresql://g@h/", "name the role and the database"),
        ("postgresql://g@h/l/x", "name the role and the database"),
        ("postgresql://g:s3cret@h/l", "must not hold a password"),
        ("postgresql://g@h/l?password=s3cret", "must not hold a password"),
        ("postgresql://g@h/l?s3cret=s3cret", "unknown key"),
        ("postgresql://g@h/l?standby", "query like"),
        ("postgresql://g@h/l?standby=required&standby=required", "each key once"),
        ("postgresql://g@h/l?standby=wanted", "standby must be required"),
        ("postgresql://g@h/l?host=/run", "name the host and port once"),
        ("postgresql://g@/l", "the folder of a socket"),
        ("postgresql://g@/l?host=run", "the folder of a socket"),
        ("postgresql://g@/l?host=/run&sslmode=verify-full", "sslmode must be"),
        ("postgresql://g@/l?host=/run&port=0", "port must be a number from 1"),
        ("postgresql://g@h:70000/l", "hosts like"),
        ("postgresql://g@h,/l", "hosts like"),
        ("postgresql://g@h/l?sslmode=prefer", "sslmode must be"),
        ("postgresql://g@h/l?sslcert=/c", "go together"),
        ("postgresql://g@h/l?passfile=p", "absolute path"),
        ("postgresql://g@h/l?pool_max=x", "pool_max must be a number"),
        ("postgresql://g@h/l?pool_max=1", "at least 2"),
        ("postgresql://g@h/l?pool_min=11", "at least pool_min"),
    ],
)
def test_a_wrong_uri_is_told_without_repeating_it(uri: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_address(uri)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "is_exposed"),
    [
        ("postgresql://g@h/l", False),
        ("postgresql://g@h/l?sslmode=disable", True),
        ("postgresql://g@localhost,h/l?sslmode=disable", True),
        ("postgresql://g@127.0.0.1,[::1]/l?sslmode=disable", False),
        ("postgresql://g@/l?host=/run", False),
    ],
)
def test_what_passes_a_network_in_clear_is_known(uri: str, is_exposed: bool) -> None:  # noqa: FBT001 -- a parameter
    assert parse_address(uri).is_exposed is is_exposed


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ("h:5432:l:g:secret", "secret"),
        ("*:*:*:*:", ""),
        (r"h:5432:l:g:a\:b\\c", "a:b\\c"),
        ("#h:5432:l:g:commented\nother:5433:l:g:second", "second"),
        ("h:5432:l:g:too:many\n*:*:*:*:last", "last"),
    ],
)
def test_the_line_of_the_role_is_found(tmp_path: Path, line: str, password: str) -> None:
    file = tmp_path / "passfile"
    file.touch(0o640)
    file.write_text(line)
    assert read_password(parse_address(f"postgresql://g@h,other:5433/l?passfile={file}")) == password


def test_a_file_without_a_line_for_the_role_is_told_and_without_a_file_there_is_no_password(tmp_path: Path) -> None:
    file = tmp_path / "passfile"
    file.touch(0o600)
    file.write_text("elsewhere:*:*:*:x\n*:1:*:*:x\n*:*:other:*:x\n*:*:*:other:x\n")
    with pytest.raises(StoreUnavailable, match="has no line for role g"):
        read_password(parse_address(f"postgresql://g@h/l?passfile={file}"))
    assert read_password(parse_address("postgresql://g@h/l")) is None


def test_a_server_is_verified_by_its_name_and_a_ca(tmp_path: Path) -> None:
    context = tls_context(parse_address("postgresql://g@h/l"))
    assert context is not None
    assert context.check_hostname
    assert tls_context(parse_address("postgresql://g@localhost/l?sslmode=disable")) is None
    with pytest.raises(StoreUnavailable, match=r"certificates .* cannot be read"):
        tls_context(parse_address(f"postgresql://g@h/l?sslrootcert={tmp_path}/none.pem"))
