"""The reader of answers, fed as a network feeds it."""

import json
from typing import Any

import pytest

from load.answers import Answer, AnswerReader, AnswerUnreadable, outcomes_of_batch

CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello"


@pytest.mark.parametrize("size", [1, 2, 7, len(CREATED)])
def test_an_answer_is_given_once_it_is_whole_in_whatever_pieces_it_comes(size: int) -> None:
    reader = AnswerReader()
    found = [reader.feed(CREATED[start : start + size]) for start in range(0, len(CREATED), size)]
    assert found[:-1] == [None] * (len(found) - 1)
    assert found[-1] == Answer(201, b"hello", closes=False)


def test_the_next_answer_is_read_on_the_same_connection() -> None:
    reader = AnswerReader()
    assert reader.feed(CREATED) == reader.feed(CREATED)


def test_an_answer_without_a_body_is_whole_with_its_head() -> None:
    assert AnswerReader().feed(b"HTTP/1.1 204 No Content\r\n\r\n") == Answer(204, b"", closes=False)


def test_an_interim_answer_is_passed_over() -> None:
    assert AnswerReader().feed(b"HTTP/1.1 100 Continue\r\n\r\n" + CREATED) == Answer(201, b"hello", closes=False)


def test_the_end_of_a_connection_is_noticed() -> None:
    answer = AnswerReader().feed(b"HTTP/1.1 503 Overloaded\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n")
    assert answer == Answer(503, b"", closes=True)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        CREATED + b"more",
        b"x" * 70_000,
    ],
)
def test_what_is_not_expected_is_refused(data: bytes) -> None:
    with pytest.raises(AnswerUnreadable):
        AnswerReader().feed(data)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(201, b"anything", closes=False), "201"),
        (Answer(503, b'{"code": "overloaded"}', closes=True), "503 overloaded"),
        (Answer(502, b"<html>", closes=True), "502"),
        (Answer(400, b'{"title": "x"}', closes=True), "400"),
        (Answer(400, b"[]", closes=True), "400"),
    ],
)
def test_answers_are_counted_by_status_and_code(answer: Answer, code: str) -> None:
    assert answer.code == code


# ── Batches ──


def batch_answer(*items: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps({"batchId": None, "items": items}).encode(), closes=False)


def test_each_item_of_a_batch_has_an_outcome_of_its_own() -> None:
    refused = {"outcome": "refused", "problem": {"status": 422, "code": "document-mismatch"}}
    answer = batch_answer({"outcome": "accepted"}, {"outcome": "repeated"}, refused, {"outcome": "missing"})
    assert outcomes_of_batch(answer, 4) == [
        ("accepted", True),
        ("repeated", True),
        ("422 document-mismatch", False),
        ("missing", False),
    ]


def test_items_of_which_nothing_is_told_are_missing() -> None:
    assert outcomes_of_batch(batch_answer({"outcome": "accepted"}), 2) == [("accepted", True), ("missing", False)]


def test_no_more_items_count_than_were_handed_over() -> None:
    assert outcomes_of_batch(batch_answer({"outcome": "accepted"}, {"outcome": "accepted"}), 1) == [("accepted", True)]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"items": 1}', b'{"items": [{}]}', b'{"items": [1]}'])
def test_an_answer_that_tells_of_no_items_has_none_that_succeeded(body: bytes) -> None:
    assert outcomes_of_batch(Answer(200, body, closes=False), 2) == [("missing", False)] * 2


def test_a_refused_batch_is_the_refusal_of_every_item() -> None:
    answer = Answer(503, b'{"code": "overloaded"}', closes=True)
    assert outcomes_of_batch(answer, 3) == [("503 overloaded", False)] * 3
