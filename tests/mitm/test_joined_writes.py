"""Neighbouring writes to one connection become one; all else stays as it was, in its order."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.connection import Client, Connection
from mitmproxy.proxy import commands

from llm_interactive.mitm.joined_writes import joined

CONNECTIONS = [Client(peername=("127.0.0.1", n), sockname=("127.0.0.1", 1), timestamp_start=0) for n in range(2)]


def send(to: int, data: bytes) -> commands.SendData:
    return commands.SendData(CONNECTIONS[to], data)


def bytes_of(found: list[commands.Command]) -> list[Any]:
    """What is written where, with each byte apart, and what stands between."""
    return [
        each
        for command in found
        for each in (
            [(command.connection, byte) for byte in command.data]
            if isinstance(command, commands.SendData)
            else [command]
        )
    ]


def test_neighbours_are_joined() -> None:
    log = commands.Log("between")
    given = [send(0, b"a"), send(0, b"b"), send(1, b"c"), send(0, b"d"), log, send(0, b"e"), send(0, b"f")]
    found = list(joined(each for each in given))  # type: ignore[arg-type]
    pieces = [each.data if isinstance(each, commands.SendData) else each for each in found]
    assert pieces == [b"ab", b"c", b"d", log, b"ef"]


@given(st.lists(st.one_of(st.tuples(st.integers(0, 1), st.binary(min_size=1, max_size=3)), st.none())))
def test_order_and_bytes_stay(script: list[tuple[int, bytes] | None]) -> None:
    given: list[commands.Command] = [send(*each) if each else commands.Log("x") for each in script]
    found = list(joined(each for each in given))  # type: ignore[arg-type]
    assert bytes_of(found) == bytes_of(given)
    places: list[Connection | None] = [getattr(each, "connection", None) for each in found]
    assert all(a is not b or a is None for a, b in itertools.pairwise(places))


def test_what_was_written_before_an_error_goes_out() -> None:
    def fails() -> Iterator[Any]:
        yield send(0, b"a")
        yield send(0, b"b")
        raise ValueError("no more")

    writing = joined(fails())  # type: ignore[arg-type]
    first = next(writing)
    assert isinstance(first, commands.SendData)
    assert first.data == b"ab"
    with pytest.raises(ValueError, match="no more"):
        next(writing)


def test_who_asks_gets_the_answer() -> None:
    answers: list[Any] = []

    def asks() -> Iterator[Any]:
        yield send(0, b"a")
        answers.append((yield commands.Log("asked")))
        yield send(0, b"b")

    commander = joined(asks())  # type: ignore[arg-type]
    assert [type(next(commander)), type(next(commander))] == [commands.SendData, commands.Log]
    last = commander.send("answered")  # type: ignore[arg-type]
    assert (type(last), answers) == (commands.SendData, ["answered"])
