import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kit.wire import Answer, WireClient, exchange, request

HEAD = b"HTTP/1.1 200 OK\r\nX-A: 1\r\n"


@contextmanager
def says(*pieces: bytes) -> Iterator[int]:
    """A server that sends these bytes to whoever connects, after its first bytes came, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                for piece in pieces:
                    connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def asked(*pieces: bytes) -> Answer:
    with says(*pieces) as port:
        return exchange(port, request("GET", "/"))


def test_a_request_in_bytes() -> None:
    assert request("POST", "/x", {"a": "b"}, {"c": 1}) == (
        b"POST /x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 8\r\na: b\r\n\r\n"
        b'{"c": 1}'
    )


def test_a_whole_answer() -> None:
    answer = asked(b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"Content-Length: 2\r\n\r\n{}")
    assert (answer.status, answer.header("x-a"), answer.json, answer.complete) == (200, "1", {}, True)


def test_a_chunked_answer_and_what_follows_it() -> None:
    body = (b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\nrubbish")
    with says(HEAD, *body) as port, WireClient(port) as client:
        client.send(request("GET", "/"))
        answer = client.read_answer()
        assert (answer.body, answer.complete) == (b"ab", True)
        assert client.rest() == b"rubbish"


@pytest.mark.parametrize("end", [b"transfer-encoding: chunked\r\n\r\n5\r\nab", b"content-length: 5\r\n\r\nab"])
def test_a_truncated_answer_is_not_complete(end: bytes) -> None:
    answer = asked(HEAD + end)
    assert (answer.body, answer.complete) == (b"ab", False)


def test_no_answer_is_an_error_that_shows_the_bytes() -> None:
    with pytest.raises(AssertionError, match="SSH-2"):
        asked(b"SSH-2.0-x\r\n\r\n")
