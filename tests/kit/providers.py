"""Many providers in one server, each below a path of its own, that answer by who asks with which key.

    with Providers() as providers:
        proxy = start_proxy(providers.environment(folder))
        providers.say({"p1 1": openai_error(429, "no")})     # the first key of p1; whoever is not named says "yes"
        ...
        assert providers.asked == ["p1 1", "p1 2"]

`p0`, `p1`, ... speak OpenAI's Chat Completions, `claude0` ... Anthropic's Messages, `gem0` ... Gemini; each has `KEYS`.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kit.exchange import Request
from kit.replies import Instead, Reply
from kit.turns import Turn, reply
from kit.upstream import Upstream

KEYS = 3
KINDS = {"p": ("openai_chat", 100), "claude": ("anthropic_messages", 5), "gem": ("gemini", 5)}
YES = Turn("yes")

type Said = Turn | Reply | Instead | Callable[[Request], Reply | Instead]


class Providers(Upstream):
    def __init__(self) -> None:
        super().__init__(answer=self._answer)
        self.asked: list[str] = []
        """Provider and number of the key, of each request in its order."""
        self._said: dict[str, Said | list[Said]] = {}

    def say(self, said: Mapping[str, Said | list[Said]]) -> None:
        """Begin anew: `p1 2`, `p1` or "" -> what is answered; of a list one after the other, the last for ever."""
        self.asked.clear()
        self.exchanges.clear()
        self._said = dict(said)

    def environment(self, folder: Path, more: Mapping[str, Any] | None = None, **variables: str) -> dict[str, str]:
        names = [
            (f"{kind}{number}", protocol) for kind, (protocol, of_each) in KINDS.items() for number in range(of_each)
        ]
        backends = {name: {"protocol": protocol, "base_url": f"{self.url}/{name}/v1"} for name, protocol in names}
        (folder / "proxy.yaml").write_text(json.dumps({"backends": backends, **(more or {})}))
        keys = {
            f"{name.upper()}_API_KEY_{number}": f"{name}-{number}" for name, _ in names for number in range(1, KEYS + 1)
        }
        return {"LLM_CONFIG": str(folder / "proxy.yaml"), **keys, **variables}

    def _answer(self, request: Request) -> Reply | Instead:
        place, number = request.path.split("/")[1], key_of(request).rpartition("-")[2]
        self.asked.append(f"{place} {number}")
        said: Any = next((self._said[name] for name in (f"{place} {number}", place, "") if name in self._said), YES)
        if isinstance(said, list):
            said = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(said, Turn):
            return reply(request, said)
        return said(request) if callable(said) else said


def key_of(request: Request) -> str:
    """ "" where none was sent."""
    for name in ("authorization", "x-api-key", "x-goog-api-key"):
        if value := request.header(name):
            return value.removeprefix("Bearer ")
    return ""
