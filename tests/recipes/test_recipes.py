"""Each recipe, run as an outsider would, hands a real letter to a real gateway, once."""

import ast
import hashlib
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import Kind
from gateway.intake.problems import PROBLEMS

House = Any
Outsider = Any
MakeOutsider = Callable[..., Outsider]
MakeLine = Any
MakeHouse = Any
RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
SSIN = "90610100155"

NEEDS_CURL = pytest.mark.needs("xmlsec1", "curl", "openssl")
NEEDS_JAVA = pytest.mark.needs("javac", "java")
EACH = pytest.mark.parametrize(
    "recipe", [pytest.param("curl", marks=NEEDS_CURL), "python", "python-jws", pytest.param("java", marks=NEEDS_JAVA)]
)


def ending(recipe: str) -> str:
    """What the files end in that a recipe keeps."""
    return "jws" if recipe == "python-jws" else "xml"


async def held(house: House, reference: str, sender: str = "gemeente") -> list[Any]:
    """The messages that the gateway holds under a reference."""
    answer = await (await house.sender(sender)).call("GET", f"/api/v1/messages?reference={reference}")
    messages: list[Any] = answer.json["messages"]
    return messages


@pytest.mark.parametrize(
    ("recipe", "sender"),
    [
        pytest.param("curl", "gemeente", id="curl, EC", marks=NEEDS_CURL),
        pytest.param("curl", "belasting", id="curl, RSA", marks=NEEDS_CURL),
        pytest.param("python", "gemeente", id="Python, EC"),
        pytest.param("python", "belasting", id="Python, RSA"),
        pytest.param("python-jws", "gemeente", id="Python, JWS, EC"),
        pytest.param("python-jws", "belasting", id="Python, JWS, RSA"),
        pytest.param("java", "gemeente", id="Java, EC", marks=NEEDS_JAVA),
        pytest.param("java", "belasting", id="Java, RSA", marks=NEEDS_JAVA),
        pytest.param("ignoreLineBreaks=false", "gemeente", id="Java, EC, line breaks", marks=NEEDS_JAVA),
    ],
)
async def test_a_letter_is_accepted_once_and_the_same_command_gives_the_same_receipt(
    recipe: str, sender: str, house: House, make_outsider: MakeOutsider
) -> None:
    outsider = make_outsider(house, recipe, sender)
    (outsider.folder / "bijlage 1.pdf").write_bytes(house.pdf + b"%" * 300_000)

    first = await outsider.send("2026-000123", "brief.pdf", "bijlage 1.pdf")
    assert first.code == 0, first.err
    [message] = await held(house, "2026-000123", sender)
    assert first.out == f"201 {message['messageId']}\n"
    kept = outsider.kept("2026-000123")
    receipt = kept.pop(f"receipt.{ending(recipe)}")
    [(name, signed)] = kept.items()
    assert name == hashlib.sha256(signed).hexdigest() + f".{ending(recipe)}"
    assert (b"&#13;" in signed) == (recipe == "ignoreLineBreaks=false")

    again = await outsider.send("2026-000123", "brief.pdf", "bijlage 1.pdf")
    assert (again.code, again.out) == (0, f"200 {message['messageId']}\n"), again.err
    assert outsider.kept("2026-000123")[f"receipt.{ending(recipe)}"] == receipt
    assert len(await held(house, "2026-000123", sender)) == 1


@EACH
async def test_after_a_lost_answer_the_recipe_sends_again_and_gets_the_first_receipt(
    recipe: str, house: House, make_outsider: MakeOutsider, lossy_line: MakeLine
) -> None:
    async with lossy_line(house, "2026-7") as line:
        outsider = make_outsider(house, recipe, GATEWAY_URL=line.url)
        ended = await outsider.send("2026-7")
    [message] = await held(house, "2026-7")
    assert (ended.code, ended.out) == (0, f"200 {message['messageId']}\n"), ended.err
    assert line.connections == 2
    assert len(outsider.kept("2026-7")) == 2  # one signed message, one receipt


@EACH
async def test_a_recipient_without_a_file_is_typed_and_a_company_has_ten_digits(
    recipe: str, house: House, make_outsider: MakeOutsider
) -> None:
    outsider = make_outsider(house, recipe)
    address = "name: Café & Co\nstreet: Markt\nhouse number: 1\npostcode: 9000\nmunicipality: Gent\ncountry: BE\n"
    ended = await outsider.send("2026-8", recipient="-", typed=f"0406.798.006\n{address}")
    assert ended.code == 0, ended.err
    [message] = await held(house, "2026-8")
    assert [delivery["channel"] for delivery in message["deliveries"]] == ["ebox-enterprise"]


@EACH
async def test_a_refusal_is_told_with_its_code_and_fix_and_nothing_is_tried_again(
    recipe: str, house: House, make_outsider: MakeOutsider
) -> None:
    outsider = make_outsider(house, recipe, LETTER_CATEGORY="administrative-fine")
    (outsider.folder / "groot.pdf").write_bytes(house.pdf + b"%" * 20_000_000)  # refused long before it has arrived
    ended = await outsider.send("2026-9", "groot.pdf")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("403 ")
    assert "urn:document-gateway:problem:category-not-authorised" in ended.err
    assert SSIN not in ended.err
    assert f"receipt.{ending(recipe)}" not in outsider.kept("2026-9")


@EACH
async def test_a_pause_longer_than_minutes_is_left_to_a_later_run(
    recipe: str, make_house: MakeHouse, make_outsider: MakeOutsider, tmp_path: Path
) -> None:
    def one_a_day(values: dict[str, Any]) -> None:
        folder = Path(shutil.copytree(values["gateway"]["senders"], tmp_path / "senders"))
        for file in folder.iterdir():
            file.write_text(re.sub("messages_per_day = [0-9]+", "messages_per_day = 1", file.read_text("utf-8")))
        values["gateway"]["senders"] = str(folder)

    house = await make_house(one_a_day)
    await (await house.sender()).accepted()
    ended = await make_outsider(house, recipe).send("2026-13")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith("429 ")
    assert ended.err.count("quota-exceeded") == 1


@EACH
async def test_a_receipt_of_another_signer_is_not_believed(
    recipe: str, house: House, make_outsider: MakeOutsider
) -> None:
    outsider = make_outsider(house, recipe, RECEIPT_CERTIFICATE="mine.pem")
    ended = await outsider.send("2026-10")
    assert (ended.code, ended.out) == (1, "")
    assert "the receipt's signature is not valid" in ended.err
    assert f"receipt.{ending(recipe)}" not in outsider.kept("2026-10")


@EACH
async def test_a_receipt_for_a_message_that_was_not_kept_is_not_believed(
    recipe: str, house: House, make_outsider: MakeOutsider
) -> None:
    outsider = make_outsider(house, recipe)
    assert (await outsider.send("2026-14")).code == 0
    shutil.rmtree(outsider.folder / "sent")
    ended = await outsider.send("2026-14")  # signed anew: other bytes than those that were accepted
    assert (ended.code, ended.out) == (1, "")
    assert "the receipt is for a signed message that is not in" in ended.err


@EACH
async def test_a_personal_number_on_the_command_line_is_refused_and_not_repeated(
    recipe: str, house: House, make_outsider: MakeOutsider
) -> None:
    ended = await make_outsider(house, recipe).send("2026-11", recipient=SSIN)
    assert (ended.code, ended.out) == (2, "")
    assert SSIN not in ended.err


@EACH
async def test_without_an_address_the_message_is_signed_and_not_sent(
    recipe: str, house: House, make_outsider: MakeOutsider
) -> None:
    outsider = make_outsider(house, recipe, GATEWAY_URL="")
    ended = await outsider.send("2026-12")
    assert (ended.code, list(outsider.kept("2026-12"))) == (0, [Path(ended.err.strip()).name])
    assert await held(house, "2026-12") == []


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("send.py", {"cryptography", "lxml", "signxml"}),
        ("send_jws.py", {"cryptography"}),
        ("send_batch.py", {"cryptography"}),
    ],
)
def test_a_python_recipe_needs_nothing_of_this_project(name: str, needs: set[str]) -> None:
    tree = ast.parse((RECIPES / "python" / name).read_text("utf-8"))
    roots = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    roots |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in roots} - set(sys.stdlib_module_names) == needs


def test_every_variable_that_a_recipe_reads_stands_in_the_example_with_an_explanation() -> None:
    example = (RECIPES / "sender.env").read_text("utf-8")
    known = set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))
    recipes = [*RECIPES.glob("*/send*"), *RECIPES.glob("*/SendLetter.*")]
    assert len(recipes) == 6
    read = {
        name
        for recipe in recipes
        for name in re.findall(r"\b(?:GATEWAY|RECEIPT|SENDER|LETTER|SENT)_[A-Z_]+\b", recipe.read_text("utf-8"))
    }
    constants = {"RECEIPT_ROOT", "RECEIPT_NS"}
    assert read - constants == known


def test_every_error_in_the_guide_has_the_status_that_the_gateway_gives_it() -> None:
    rows = re.findall(
        r"^\| ((?:`[a-z-]+`(?:, )?)+) \| ([0-9]{3}) \|", (RECIPES / "README.md").read_text("utf-8"), re.MULTILINE
    )
    told = {code: int(status) for codes, status in rows for code in re.findall("[a-z-]+", codes)}
    assert len(told) > 10
    assert told == {code: PROBLEMS[Kind(code)].status for code in told}


async def test_a_request_as_the_dotnet_library_writes_it_is_accepted(house: House) -> None:
    # MultipartFormDataContent quotes the boundary, and writes Content-Type before Content-Disposition.
    sender = await house.sender()
    message = sender.message()
    boundary = "5d0eb8c5-2f4d-4f2b-9c5c-6f0f2c7a1f35"
    parts = [
        (b'Content-Type: application/xml\r\nContent-Disposition: form-data; name="message"', sender.sign(message)),
        (
            b'Content-Type: application/pdf\r\nContent-Disposition: form-data; name="upfile1"; filename="brief-1.pdf"',
            house.pdf,
        ),
    ]
    body = f"--{boundary}\r\n".encode() + f"\r\n--{boundary}\r\n".encode().join(
        head + b"\r\n\r\n" + content for head, content in parts
    )
    answer = await sender.call(
        "POST",
        "/api/v1/messages",
        body=body + f"\r\n--{boundary}--\r\n".encode(),
        headers={"Content-Type": f'multipart/form-data; boundary="{boundary}"', "Accept": "application/xml"},
    )
    assert answer.status == 201, answer.body
