"""Every row of the sender interface has a test that drives the real server; a row without one fails here."""

import ast
from pathlib import Path

import pytest

from gateway.errors import Kind
from gateway.intake.routes import ROUTES

HERE = Path(__file__).parent
M = "/api/v1/messages"

# Row of the interface: its routes, and where the running gateway is driven through it.
ROWS = {
    "hand over a message": ([("POST", M)], "test_accepting.py"),
    "hand over a message as JSON Web Signature": ([("POST", M)], "test_jws_dialect.py"),
    "the same message again": ([("POST", M)], "test_same_again.py"),
    "dry run": ([("POST", M)], "test_check_mode.py"),
    "one message": ([("GET", M + "/{messageId}")], "test_status.py"),
    "own messages": ([("GET", M)], "test_status.py"),
    "statuses of up to 500": ([("POST", "/api/v1/statusRequest")], "test_status.py"),
    "cancel": ([("POST", M + "/{messageId}/cancel")], "test_cancel.py"),
    "evidence and kit": (
        [
            ("GET", M + "/{messageId}/evidence"),
            ("GET", M + "/{messageId}/evidence/{n}"),
            ("GET", M + "/{messageId}/kit"),
        ],
        "test_evidence.py",
    ),
    "batches": (
        [
            ("POST", "/api/v1/batches"),
            ("GET", "/api/v1/batches/{batchId}"),
            ("POST", "/api/v1/batches/{batchId}/cancel"),
        ],
        "test_batches.py",
    ),
    "registered mail": (
        [("GET", M + "/{messageId}/bpost-status"), ("GET", M + "/{messageId}/bpost-attestation")],
        "test_postal.py",
    ),
    "events": ([("GET", "/api/v1/events")], "test_events.py"),
    "dossiers": (
        [("POST", "/api/v1/dossiers"), ("POST", "/api/v1/dossiers/end"), ("POST", "/api/v1/dossiers/search")],
        "test_dossiers.py",
    ),
    "whoami": ([("GET", "/api/v1/whoami")], "test_whoami.py"),
    "trust": ([("GET", "/api/v1/trust")], "test_evidence.py"),
    "the contract": (
        [
            ("GET", "/api/v1/openapi.json"),
            ("GET", "/api/v1/docs"),
            ("GET", "/api/v1/message.xsd"),
            ("GET", "/api/v1/batch.xsd"),
            ("GET", "/api/v1/receipt.xsd"),
            ("GET", "/api/v1/xmldsig-subset.xsd"),
            ("GET", "/api/v1/message.schema.json"),
            ("GET", "/api/v1/batch.schema.json"),
            ("GET", "/api/v1/examples/message.xml"),
            ("GET", "/api/v1/examples/message.jws"),
            ("GET", "/api/v1/examples/batch.xml"),
            ("GET", "/api/v1/examples/batch.jws"),
            ("GET", "/api/v1/examples/batch-m1.xml"),
            ("GET", "/api/v1/examples/batch-m1.json"),
        ],
        "test_contract_files.py",
    ),
}


def drives_the_server(file: Path) -> int:
    """Return how many tests of a file take a running gateway."""
    tree = ast.parse(file.read_text("utf-8"))
    fixtures = {"house", "make_house", "intake", "bench", "make_bench"}
    made_here = {
        node.name
        for node in tree.body
        if isinstance(node, ast.AsyncFunctionDef) and fixtures & {each.arg for each in node.args.args}
    }
    return sum(
        isinstance(node, ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and bool((fixtures | made_here) & {each.arg for each in node.args.args})
        for node in tree.body
    )


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_routed_and_driven(row: str) -> None:
    routes, file = ROWS[row]
    assert set(routes) <= {(route.method, route.path) for route in ROUTES}
    assert drives_the_server(HERE / file) > 0


def test_every_route_is_a_row() -> None:
    routed = {(route.method, route.path) for route in ROUTES}
    assert routed == {route for routes, _ in ROWS.values() for route in routes}


def test_every_problem_code_is_driven_somewhere() -> None:
    driven = "".join(path.read_text("utf-8") for path in HERE.glob("test_*.py"))
    missing = [kind for kind in Kind if f'"{kind}"' not in driven and f"Kind.{kind.name}" not in driven]
    assert missing == []
