"""The reader of answers, fed as a network feeds it."""

import pytest

from load.answers import Answer, AnswerReader, AnswerUnreadable

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
