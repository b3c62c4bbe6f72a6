"""The services known by name, one frozen row each (SPEC 12): a new one is a new row.

Base URLs are those of the providers' own documentation; a protocol is listed where that documentation says it is
served. `demo` has none: it is a server inside the process.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

FAMILIES = MappingProxyType(
    {
        "openai_chat": "openai",
        "openai_responses": "openai",
        "anthropic_messages": "anthropic",
        "gemini": "gemini",
    }
)
"""Protocol -> the vendor that made it."""


@dataclass(frozen=True, slots=True)
class Backend:
    """`protocols`: name -> default base URL; the first is the one assumed at a custom base URL.

    `prefix`: of the environment variables `<PREFIX>_API_KEY` and `<PREFIX>_API_BASE_URL`. `hosts`: where its calls are
    recognised when they are caught on their way. `headers`: sent with every call. `needs_key`: without one it is not
    configured. `signs_in`: the file of a sign-in that does in place of a key.
    """

    name: str
    prefix: str
    protocols: Mapping[str, str]
    hosts: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    needs_key: bool = True
    signs_in: str | None = None

    @property
    def vendor(self) -> str:
        """The family of its first protocol: `openai`, `anthropic` or `gemini`."""
        return FAMILIES[next(iter(self.protocols))]


BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {
        row.name: row
        for row in (
            Backend(
                "openai",
                "OPENAI",
                {"openai_chat": "https://api.openai.com/v1", "openai_responses": "https://api.openai.com/v1"},
                hosts=("api.openai.com", "us.api.openai.com", "eu.api.openai.com"),
            ),
            Backend("openai-responses", "OPENAI", {"openai_responses": "https://api.openai.com/v1"}),
            Backend(
                "openrouter", "OPENROUTER", {"openai_chat": "https://openrouter.ai/api/v1"}, hosts=("openrouter.ai",)
            ),
            Backend(
                "anthropic",
                "ANTHROPIC",
                {"anthropic_messages": "https://api.anthropic.com/v1"},
                hosts=("api.anthropic.com",),
            ),
            Backend(
                "gemini",
                "GEMINI",
                {"gemini": "https://generativelanguage.googleapis.com/v1beta"},
                hosts=("generativelanguage.googleapis.com",),
            ),
            Backend(
                "zai",
                "ZAI",
                {
                    "openai_chat": "https://api.z.ai/api/paas/v4",
                    "anthropic_messages": "https://api.z.ai/api/anthropic",
                },
                hosts=("api.z.ai",),
            ),
            Backend(
                "qwen",
                "QWEN",
                {
                    "openai_chat": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
                    "anthropic_messages": "https://dashscope-intl.aliyuncs.com/apps/anthropic",
                },
                hosts=("dashscope-intl.aliyuncs.com", "dashscope-us.aliyuncs.com", "dashscope.aliyuncs.com"),
            ),
            Backend(
                "qwen-oauth",
                "QWEN_OAUTH",
                {"openai_chat": "https://portal.qwen.ai/v1"},
                headers={"x-dashscope-authtype": "qwen-oauth"},
                needs_key=False,
                signs_in="~/.qwen/oauth_creds.json",
            ),
            Backend(
                "deepseek",
                "DEEPSEEK",
                {
                    "openai_chat": "https://api.deepseek.com/v1",
                    "anthropic_messages": "https://api.deepseek.com/anthropic",
                },
                hosts=("api.deepseek.com",),
            ),
            Backend("mistral", "MISTRAL", {"openai_chat": "https://api.mistral.ai/v1"}, hosts=("api.mistral.ai",)),
            Backend("groq", "GROQ", {"openai_chat": "https://api.groq.com/openai/v1"}, hosts=("api.groq.com",)),
            Backend(
                "xai",
                "XAI",
                {"openai_chat": "https://api.x.ai/v1", "openai_responses": "https://api.x.ai/v1"},
                hosts=("api.x.ai",),
            ),
            Backend(
                "moonshot",
                "MOONSHOT",
                {
                    "openai_chat": "https://api.moonshot.ai/v1",
                    "anthropic_messages": "https://api.moonshot.ai/anthropic",
                },
                hosts=("api.moonshot.ai", "api.moonshot.cn"),
            ),
            Backend("ollama", "OLLAMA", {"openai_chat": "http://127.0.0.1:11434/v1"}, needs_key=False),
        )
    }
)

DEMO = "demo"
NAMES = (*BACKENDS, DEMO)
PREFIXES: tuple[str, ...] = tuple(dict.fromkeys(row.prefix for row in BACKENDS.values()))


def prefix_of(name: str) -> str:
    """The prefix of the environment variables of a backend that the table may not know: `my-host` -> `MY_HOST`."""
    row = BACKENDS.get(name)
    return row.prefix if row is not None else "".join(c if c.isalnum() else "_" for c in name).upper()
