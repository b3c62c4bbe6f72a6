"""SSE on bytes: the WHATWG text's line ends, and the same events however the stream is cut."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_interactive import sse

LINES = st.sampled_from(
    [b"data: x", b"data:y", b"data", b"event: e", b": note", b"", b"data: \xc3\xa9\xe2\x80\xa8", b"id: 1", b"data:  z"]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.tuples(LINES, ENDS), max_size=12))
    return b"".join(line + end for line, end in lines)


def split(stream: bytes, cuts: list[int]) -> list[sse.ServerSentEvent]:
    splitter = sse.Splitter()
    marks = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    events = [event for a, b in pairwise(marks) for event in splitter.feed(stream[a:b])]
    return events + splitter.flush()


def datas(stream: bytes) -> list[bytes | None]:
    return [event.data for event in split(stream, [])]


@given(streams(), st.lists(st.integers(0, 200), max_size=8))
@example(b": hi\n\n\n\n\n", [6])
@example(b": hi\n\n\n\n\n\n", [6])
@example(b": hi\n\ndata: x\n\n\ndata: y\n\n", [6])
def test_any_cut_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    assert split(stream, cuts) == split(stream, [])


@given(streams())
def test_byte_by_byte_gives_the_same_events(stream: bytes) -> None:
    assert split(stream, list(range(len(stream)))) == split(stream, [])


@given(streams(), st.lists(st.integers(0, 200), max_size=4))
def test_no_byte_is_lost(stream: bytes, cuts: list[int]) -> None:
    passed = b"".join(event.raw for event in split(stream, cuts))
    assert passed.rstrip(b"\r\n") == stream.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b": ping\n\ndata: a\n\n", [None, b"a"]),
        (b"event: e\ndata: a\n\n", [b"a"]),
        (b"data: a", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    ],
)
def test_t76_lines_and_fields(stream: bytes, expected: list[bytes | None]) -> None:
    assert datas(stream) == expected


def test_t76_cr_and_lf_in_two_pieces_are_one_line_end() -> None:
    splitter = sse.Splitter()
    assert splitter.feed(b"data: a\r") == []
    assert splitter.feed(b"\ndata: b\r") == []
    assert [event.data for event in splitter.feed(b"\n\r\n")] == [b"a\nb"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c"])
def test_t77_other_separators_end_no_line(separator: str) -> None:
    stream = f'data: {{"a":"x{separator}y"}}\n\n'.encode()
    assert datas(stream) == [f'{{"a":"x{separator}y"}}'.encode()]


def test_the_name_of_an_event_is_kept() -> None:
    [event] = split(b"event: message_start\ndata: {}\n\n", [])
    assert (event.name, event.data) == ("message_start", b"{}")
    assert event.raw == b"event: message_start\ndata: {}\n\n"


@given(st.binary(max_size=50).filter(lambda data: not data.startswith(b" ") and not {*b"\r\n"} & {*data}))
def test_what_is_written_is_read_again(data: bytes) -> None:
    assert [(e.data, e.name) for e in split(sse.write(data, "n"), [])] == [(data, "n")]
    assert [e.data for e in split(sse.write(data), [])] == [data]
