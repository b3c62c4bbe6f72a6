"""What `llm-proxy serve` says when it is ready: where it listens, what to set in a client, which backends there are."""

from mitmproxy import ctx
from rich.console import Console
from rich.markup import escape

from llm_interactive import __version__
from llm_interactive.backends import catalog
from llm_interactive.settings import Settings

BASE_URLS = (
    ("OpenAI", "OPENAI_BASE_URL", "/v1"),
    ("Anthropic", "ANTHROPIC_BASE_URL", "/anthropic"),
    ("Gemini", "GOOGLE_GEMINI_BASE_URL", ""),
)
"""Vendor, the variable that its SDK reads, and the path to put behind the proxy's address."""
ANY_ADDRESS = ("0.0.0.0", "::", "")


class Banner:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def running(self) -> None:
        proxyserver = ctx.master.addons.get("proxyserver")
        addresses = proxyserver.listen_addrs()
        if addresses:
            host, port, *_ = addresses[0]
            Console(highlight=False, soft_wrap=True).print(text(self._settings, host, port))


def text(settings: Settings, host: str, port: int) -> str:
    """Rich markup, never a key."""
    shown = "127.0.0.1" if host in ANY_ADDRESS else host
    url = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    lines = [f"[bold]LLM Interactive Proxy {__version__}[/] on [bold]{escape(url)}[/]", ""]
    lines += [f"  {name:10}{variable}={escape(url)}{path}" for name, variable, path in BASE_URLS]
    return "\n".join([*lines, "", *_backends(settings, url)])


def _backends(settings: Settings, url: str) -> list[str]:
    configured = catalog.configured(settings)
    lines = []
    if settings.backend and settings.backend not in (*configured, "demo"):
        lines.append(f"  LLM_BACKEND is {escape(settings.backend)}, which has no key: other backends are used")
    if not configured:
        body = '{"model": "demo:echo", "messages": [{"role": "user", "content": "Hello"}]}'
        return [
            *lines,
            "  no key found: using the demo backend, try:",
            escape(f"  curl {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"),
        ]
    counts = (f"{name} ({len(each.keys)} key{'s' * (len(each.keys) != 1)})" for name, each in configured.items())
    return [*lines, f"  backends  {', '.join(counts)}"]
