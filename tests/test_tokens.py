import gzip
import socket
from pathlib import Path
from typing import Any

import pytest

from llm_interactive import tokens
from llm_interactive.conversation import (
    Conversation,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Source,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from llm_interactive.tokens import count_conversation, count_text, estimate, exactness, load

ENGLISH = """The proxy sits between any client and any backend. It translates protocols, obeys commands that are typed
inside prompts, routes requests, changes keys when one of them is refused, stops loops before they become expensive, and
writes down every token. When the client goes away, the upstream is cancelled at once, and what was used is recorded.
"""
CODE = '''def merge(left: list[int], right: list[int]) -> list[int]:
    """Two sorted lists as one."""
    result: list[int] = []
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    return result + left[i:] + right[j:]
'''
CHINESE = "这个代理位于任何客户端和任何后端之间。它翻译协议,执行提示中输入的命令,转发请求,并记录每一个令牌的使用情况。"
JAPANESE = (
    "このプロキシは、任意のクライアントと任意のバックエンドの間に位置します。プロトコルを翻訳し、コマンドを実行します。"
)
KOREAN = "이 프록시는 모든 클라이언트와 모든 백엔드 사이에 위치합니다. 프로토콜을 번역하고 명령을 실행합니다."
RUSSIAN = "Прокси находится между любым клиентом и любым сервером. Он переводит протоколы и выполняет команды."
HINDI = "यह प्रॉक्सी किसी भी क्लाइंट और किसी भी बैकएंड के बीच रहता है। यह प्रोटोकॉल का अनुवाद करता है।"
JSON = (
    '{"object":"usage_entries","data":[{"id":17,"model":"gpt-4o","prompt_tokens":1234,"cost":0.00431,"stream":true}]}'
)

COUNTED = {
    ENGLISH: 70,
    CODE: 100,
    CHINESE: 39,
    JAPANESE: 43,
    KOREAN: 32,
    RUSSIAN: 26,
    HINDI: 33,
    JSON: 39,
}
"""What `o200k_base` makes of them."""


@pytest.fixture(autouse=True)
def _fresh_table() -> Any:
    tokens._encoding.cache_clear()
    yield
    tokens._encoding.cache_clear()


@pytest.fixture
def table() -> None:
    if tokens._encoding() is None:
        pytest.skip("no copy of the o200k_base table on this machine")


@pytest.fixture
def no_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLM_PROXY_HOME", str(tmp_path))
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.setattr(tokens, "PACKAGES", ())


def user(*parts: Any) -> Conversation:
    return Conversation(model="m", messages=(Message(role="user", parts=parts),))


@pytest.mark.parametrize(("text", "counted"), COUNTED.items())
def test_the_estimate_is_within_a_quarter(text: str, counted: int) -> None:
    assert 0.75 <= estimate(text) / counted <= 1.25


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(("text", "counted"), COUNTED.items())
def test_the_table_counts_as_openai_does(text: str, counted: int) -> None:
    assert count_text(text, "gpt-4o") == counted


@pytest.mark.usefixtures("no_table")
def test_without_a_table_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert count_text(ENGLISH, "gpt-4o") == estimate(ENGLISH)
    assert exactness("gpt-4o") == "rough"


@pytest.mark.usefixtures("no_table")
@pytest.mark.parametrize("text", ["a", " ", "\n", "。", "\ud800", "\x00", "😀", "1", "-"])
def test_some_text_is_never_0(text: str) -> None:
    assert count_text(text, "gpt-4o") >= 1


@pytest.mark.usefixtures("table")
def test_a_lone_surrogate_is_counted() -> None:
    assert count_text("a \ud800 b", "gpt-4o") >= 3


def test_no_text_is_0() -> None:
    assert count_text("", "gpt-4o") == 0


@pytest.mark.usefixtures("table")
def test_special_tokens_in_a_text_are_text() -> None:
    assert count_text("<|endoftext|>", "gpt-4o") > 1


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("model", "said"),
    [("gpt-4o", "exact"), ("openai/gpt-5", "exact"), ("gpt-4", "near"), ("claude-opus-4-6", "near"), ("x", "near")],
)
def test_exactness(model: str, said: str) -> None:
    assert exactness(model) == said


def test_claude_has_more_tokens_than_openai_and_newer_ones_still_more() -> None:
    counts = [count_text(ENGLISH, model) for model in ("gpt-4o", "claude-sonnet-4-5", "claude-opus-4-7")]
    assert counts == sorted(set(counts))
    assert count_text(ENGLISH, "claude-3-haiku-20240307") == counts[1]
    assert count_text(ENGLISH, "claude-fable-5") == counts[2]


def test_a_table_with_another_hash_is_not_used(tmp_path: Path) -> None:
    plain, packed, broken = tmp_path / "a.tiktoken", tmp_path / "b.tiktoken.gz", tmp_path / "c.tiktoken.gz"
    plain.write_bytes(b"IQ== 0\n")
    packed.write_bytes(gzip.compress(b"IQ== 0\n"))
    broken.write_bytes(b"not gzip")
    assert load([plain, packed, broken, tmp_path / "absent"]) is None


@pytest.mark.usefixtures("table")
def test_the_table_is_found_in_the_proxys_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = next(place for place in tokens._places() if load([place]) is not None)
    data = found.read_bytes()
    (tmp_path / "tiktoken").mkdir()
    (tmp_path / "tiktoken/o200k_base.tiktoken").write_bytes(gzip.decompress(data) if found.suffix == ".gz" else data)
    monkeypatch.setattr(tokens, "PACKAGES", ())
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.setenv("LLM_PROXY_HOME", str(tmp_path))
    tokens._encoding.cache_clear()
    assert exactness("gpt-4o") == "exact"


def test_a_long_text_is_cut_and_nothing_is_lost() -> None:
    for text in ("ab " + "x" * 45_000 + " cd", " " * 45_000, "天" * 45_000 + "\n" + "y" * 5, ENGLISH * 500, ""):
        pieces = list(tokens._pieces(text))
        assert "".join(pieces) == text
        assert max(map(len, pieces)) <= tokens.LONGEST_PIECE
    assert list(tokens._pieces(ENGLISH)) == [ENGLISH]


@pytest.mark.parametrize("text", [ENGLISH, Path(tokens.__file__).read_text(), "It's 12345 o'clock,\n\n\tisn't it? 天 "])
def test_a_long_text_has_the_same_tokens_in_pieces(text: str) -> None:
    encoding = tokens._encoding()
    assert encoding is not None
    long = text * (100_000 // len(text))
    assert len(list(tokens._pieces(long))) > 4
    assert count_text(long, "gpt-4o") == len(encoding.encode_ordinary(long))


@pytest.mark.parametrize("text", ["x" * 1_000_000, " " * 1_000_000, "-" * 1_000_000, "ab" * 500_000, "天" * 300_000])
def test_a_megabyte_without_a_break(text: str) -> None:
    assert 0 < count_text(text, "gpt-4o") < 1_000_000


def test_every_part_of_a_conversation_counts() -> None:
    bare = user(Text(text="hi"))
    words = "some more words of it"
    call = ToolCall(id="c", name="f", arguments=f'{{"q": "{words}"}}')
    richer = [
        bare.edit(system=(Text(text=words),)),
        bare.edit(system=(Media(kind="image", data="AAAA"),)),
        bare.edit(messages=bare.messages * 2),
        bare.edit(tools=(Tool(name="f", description=words, schema={"type": "object"}),)),
        bare.edit(tools=(Opaque(what="hosted tool", source=Source("openai_responses", {"type": words})),)),
        bare.edit(output=OutputFormat(kind="json_schema", schema={"title": words})),
        user(Text(text="hi"), Text(text=words)),
        user(Text(text="hi"), Thinking(text=words)),
        user(Text(text="hi"), call),
        user(Text(text="hi"), ToolResult(call_id="c", parts=(Text(text=words),))),
        user(Text(text="hi"), ToolResult(call_id="c", parts=(Media(kind="image", data="AAAA"),))),
        user(Text(text="hi"), Media(kind="document", text=words)),
        user(Text(text="hi"), Media(kind="image", url="http://127.0.0.1/a.png")),
        user(Text(text="hi"), Opaque(what="block", source=Source("anthropic_messages", {"type": words}))),
    ]
    least = count_conversation(bare, "gpt-4o")
    assert 5 <= least <= 12
    for conversation in richer:
        assert count_conversation(conversation, "gpt-4o") >= least + 4, conversation


@pytest.mark.parametrize(
    ("media", "counted"),
    [
        (Media(kind="image", data="A" * 4_000_000), 1_000),
        (Media(kind="image", data="A" * 4_000_000, detail="low"), 85),
        (Media(kind="document", text="one"), 1),
        (Media(kind="document", file_id="file-1"), 1_500),
        (Media(kind="document", data="A" * 800_000), 30_000),
        (Media(kind="document", data="A" * 40_000_000), 100_000),
        (Media(kind="audio", data="A" * 800_000), 1_200),
        (Media(kind="video", data="A" * 8_000_000), 6_000),
    ],
)
def test_media_count_by_rules_of_thumb_and_their_base64_never_as_text(media: Media, counted: int) -> None:
    with_it, without = user(Text(text="hi"), media), user(Text(text="hi"))
    more = count_conversation(with_it, "gpt-4o") - count_conversation(without, "gpt-4o")
    assert counted <= more <= counted + 1
