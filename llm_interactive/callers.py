"""Which program a client is, by what its headers say: `Claude Code`, `OpenAI SDK (Python)`, never with a version, so
that few names come together over the years.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

LONGEST = 60

TITLED = ("x-title", "x-openrouter-title")
"""Headers by which programs name themselves to OpenRouter, and so to whatever they take for it."""

PROGRAMS: tuple[tuple[str, str], ...] = (
    ("claude-cli", "Claude Code"),
    ("claude-code", "Claude Code"),
    ("codex_", "Codex"),
    ("codex-", "Codex"),
    ("codex/", "Codex"),
    ("geminicli", "Gemini CLI"),
    ("qwencode", "Qwen Code"),
    ("qwen-code", "Qwen Code"),
    ("opencode", "OpenCode"),
    ("roocode", "Roo Code"),
    ("roo-code", "Roo Code"),
    ("kilo-code", "Kilo Code"),
    ("kilocode", "Kilo Code"),
    ("cline", "Cline"),
    ("aider", "Aider"),
    ("cursor", "Cursor"),
    ("zed/", "Zed"),
    ("continue/", "Continue"),
    ("crush/", "Crush"),
    ("charm-crush", "Crush"),
    ("goose", "Goose"),
    ("litellm", "LiteLLM"),
    ("langchain", "LangChain"),
    ("pydantic-ai", "Pydantic AI"),
    ("ai-sdk/", "Vercel AI SDK"),
    ("ai/", "Vercel AI SDK"),
    ("google-genai-sdk", "Google GenAI SDK"),
    ("openai/", "OpenAI SDK"),
    ("asyncopenai/", "OpenAI SDK"),
    ("anthropic/", "Anthropic SDK"),
    ("asyncanthropic/", "Anthropic SDK"),
    ("mozilla/", "Browser"),
)
"""What a word of the user agent begins with, in lower case. The first row that fits counts: programs go before what
they are built with."""

SDKS = ("OpenAI SDK", "Anthropic SDK", "Google GenAI SDK")
LANGUAGES = (("python", "Python"), ("/js", "JavaScript"), ("node", "JavaScript"), ("java", "Java"), ("go", "Go"),
             ("ruby", "Ruby"), ("csharp", "C#"), ("dotnet", "C#"), (".net", "C#"), ("php", "PHP"))  # fmt: skip

_START = re.compile(r"(?:^|[\s(;,])(?P<word>[^\s(;,]+)")
_PRODUCT = re.compile(r"[^\s/(;,]+")


def caller_name(headers: Mapping[str, str]) -> str | None:
    """`headers` have lower-case names. None where nothing is said."""
    title = next((title for name in TITLED if (title := headers.get(name, "").strip())), "")
    if title:
        return _plain(title)
    return named(headers.get("user-agent", "")[:1000])


@lru_cache(maxsize=1024)
def named(agent: str) -> str | None:
    """By a user agent; one that is not known goes by its first product's name."""
    lower = agent.lower()
    words = [found["word"] for found in _START.finditer(lower)]
    for start, name in PROGRAMS:
        if any(word.startswith(start) for word in words):
            language = next((each for mark, each in LANGUAGES if mark in lower), None) if name in SDKS else None
            return f"{name} ({language})" if language else name
    product = _PRODUCT.search(agent)
    return _plain(product[0]) if product else None


def _plain(name: str) -> str | None:
    return "".join(char for char in name if char.isprintable())[:LONGEST].strip() or None
