"""The models of the `demo` backend (SPEC 12): functions from what they are asked to pieces of a reply.

A piece is some text or a tool call, with the seconds to wait before it.
"""

import hashlib
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Any

from llm_interactive import wire_json

MAX_DELAY = 600.0
"""Seconds that a prompt may make `slow` wait."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What the models look at in a request."""

    model: str
    said: str
    """The text of the newest user message."""
    tool: dict[str, Any] | None
    """The first function offered."""
    conversation: str
    """A digest of all messages."""
    prompt_tokens: int
    max_tokens: int
    stream: bool
    include_usage: bool


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    arguments: str
    pause: float = 0.0


Piece = Text | ToolCall
Model = Callable[[Ask], Iterable[Piece]]


def words(text: str, pause: float = 0.0) -> Iterator[Text]:
    """The text a word at a time, each with the white space before it; joined they are the text again."""
    return (Text(found[0], pause) for found in re.finditer(r"\s*\S+|\s+", text))


def echo(ask: Ask) -> Iterable[Piece]:
    return words(ask.said or "I echo the newest user message, and it has no text.")


STORY = (
    (
        "Long after the last ferry had gone,",
        "On the morning of the first snow,",
        "In the year when the bees came back,",
    ),
    ("a clockmaker named Ilse", "a retired lighthouse keeper named Tomas", "a young cartographer named Wren"),
    ("found a small brass key lying on the doorstep.", "found an unsigned postcard under a cup of cold tea."),
    ("It was warm, as if somebody had only just let go of it.", "It smelled of oranges and of rain on hot stone."),
    ("The neighbours were asked, one after another,", "The baker, the postman and the baker's aunt were asked,"),
    ("but nobody could say who had left it there.", "but each of them told a different and better tale."),
    ("So there was nothing for it but to pack a lantern, two apples and a map, and to set out along the river.",),
    ("Past the mill the path grew narrow,", "Beyond the orchard wall the road forgot its name,"),
    ("and the herons watched in silence", "and a grey cat walked ahead with great importance"),
    ("while evening folded itself quietly over the fields.", "while the wind turned the pages of the barley."),
    ("At the end of the valley stood a door without a house.", "On the hill stood a piano, perfectly in tune."),
    ("Opening it took courage,", "Coming closer took more courage than expected,"),
    ("because some questions are kinder before they have answers.", "because wonder is shy and startles easily."),
    ("Behind it someone had laid a table for two", "Beside it someone had lit a fire and put the kettle on"),
    ("and written a note in a careful hand:", "and chalked a single line upon a slate:"),
    ("'You took your time, but the soup is still warm.'", "'Sit down, traveller; the best part is about to begin.'"),
    ("They talked until the stars had wandered halfway across the sky, about tides, and bread, and things once lost.",),
    ("Nothing was explained, and nothing needed to be.", "The mystery stayed whole, which was its gift."),
    ("When morning came the way home seemed shorter,", "The walk back was downhill in every direction,"),
    ("and the pocket where the secret had been was full of seeds.", "and somebody, somewhere, was humming along."),
    ("They were planted by the gate that very day.", "It was told that winter to anyone who would listen."),
    ("If you pass there in spring, look for a blue flower that nobody can name, and say hello from all of us.",),
)


def story(ask: Ask) -> Iterable[Piece]:
    chosen = random.Random(hashlib.sha256(ask.said.encode(errors="replace")).digest())
    return words(" ".join(chosen.choice(phrases) for phrases in STORY), pause=0.03)


def loop(ask: Ask) -> Iterable[Piece]:
    return cycle(words("I have said this before and I will say it again. ", pause=0.005))


def tool_loop(ask: Ask) -> Iterable[Piece]:
    match ask.tool:
        case {"name": str(name), **function}:
            return (ToolCall(name, wire_json.text(example(function.get("parameters"))), pause=0.03),)
    return words("Offer me a function tool, and I will call it with the same arguments in every turn.")


def flaky(ask: Ask) -> Iterable[Piece]:
    return words(f"This time it worked. You said: {ask.said}")


def slow(ask: Ask) -> Iterable[Piece]:
    wanted = re.search(r"\bdelay=(\d{1,4}(?:\.\d{1,3})?)", ask.said)
    delay = min(float(wanted[1]), MAX_DELAY) if wanted else 5.0
    answer = words(f"Good things take time: {delay:g} seconds to the first word, and a rest after every one.", 0.25)
    return chain((Text(first.text, delay) for first in islice(answer, 1)), answer)


MODELS: dict[str, Model] = {
    "echo": echo,
    "story": story,
    "loop": loop,
    "tool-loop": tool_loop,
    "flaky": flaky,
    "slow": slow,
}

EXAMPLES: dict[str, Any] = {"string": "demo", "integer": 1, "number": 1.5, "boolean": True, "array": [], "null": None}


def example(schema: object, depth: int = 8) -> Any:
    """The smallest value that a tool's parameter schema is likely to accept; the same one each time."""
    match schema:
        case {"const": value} | {"enum": [value, *_]}:
            return value
        case {"anyOf": [inner, *_]} | {"oneOf": [inner, *_]} if depth:
            return example(inner, depth - 1)
        case {"type": [str(kind), *_]} | {"type": str(kind)} if kind != "object":
            return EXAMPLES.get(kind, "demo")
        case {"properties": dict(properties), "required": list(required)} if depth:
            return {name: example(properties.get(name), depth - 1) for name in required if isinstance(name, str)}
    return {}
