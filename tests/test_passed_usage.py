import json
from typing import Any

import pytest

from llm_interactive.events import Usage
from llm_interactive.passed_usage import KEPT, PassedUsage, model_of


def heard(data: bytes, size: int = 1000) -> Usage | None:
    usage = PassedUsage()
    for start in range(0, len(data), size):
        usage.feed(data[start : start + size])
    return usage.found()


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
@pytest.mark.parametrize("before", [0, 100, KEPT - 20, KEPT, 3 * KEPT])
@pytest.mark.parametrize("after", [0, 5, KEPT // 2])
def test_usage_is_found_at_either_end(size: int, before: int, after: int) -> None:
    body = {"data": "x" * before, "usage": {"prompt_tokens": 8, "total_tokens": 8}, "more": "y" * after}
    if size < 10 and before > KEPT:
        pytest.skip("long, and the same as the others")
    assert heard(json.dumps(body).encode(), size) == Usage(8, 0)


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        ({"usage": {"input_tokens": 5, "output_tokens": 7, "input_tokens_details": {"image_tokens": 2}}}, Usage(5, 7)),
        ({"usage": {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 3}}}, Usage(5, 0, 3)),
        ({"usageMetadata": {"promptTokenCount": 4}}, Usage(4, 0)),
        ({"usage": {"type": "duration", "seconds": 3}}, None),
        ({"usage": "unknown"}, None),
        ({"usage": {"prompt_tokens": True}}, None),
        ({"text": 'a "usage" of words'}, None),
        ({}, None),
    ],
)
def test_what_vendors_say(said: Any, usage: Usage | None) -> None:
    assert heard(json.dumps(said).encode()) == usage


def test_the_last_one_of_a_stream_counts() -> None:
    events = [{"usage": None}, {"usage": {"input_tokens": 1}}, {"type": "done", "usage": {"input_tokens": 9}}]
    assert heard(b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events)) == Usage(9, 0)


@pytest.mark.parametrize(
    "data", [b"", b'"usage": {', b'{"usage": {"a": ', b'"usage": ' + b'{"a":' * 10_000, b"\xff" * 99]
)
def test_whatever_comes_is_no_error(data: bytes) -> None:
    assert heard(data) is None


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model": "text-embedding-3-small", "input": "x"}', "text-embedding-3-small"),
        (b'{"image": "' + b"A" * 100_000 + b'", "model":"gpt-image-1"}', "gpt-image-1"),
        (b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x--', "whisper-1"),
        (b"", None),
        (b'{"model": 5}', None),
    ],
)
def test_the_model_of_a_request(body: bytes, model: str | None) -> None:
    assert model_of(body) == model
