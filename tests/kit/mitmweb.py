"""What a person does in mitmweb's pages, through the requests that they send.

with MitmWeb(start_proxy(..., mode="mitmweb")) as web:
    [flow] = web.answered(1)
    web.command("llm.replay_with", f"@{flow['id']}", "openai:gpt-4o")
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import httpx
from kit.proxy import RunningProxy

VIEW = "llm conversation"
PATIENCE = 15.0


class MitmWeb:
    def __init__(self, proxy: RunningProxy) -> None:
        self.proxy = proxy
        self._client = httpx.Client(base_url=proxy.web_url, params={"token": "test"}, timeout=PATIENCE)

    def __enter__(self) -> Self:
        token = "00" * 16  # the page and its cookie must agree, that is all
        self._client.cookies["_mitmproxy_xsrf"] = self._client.headers["x-xsrftoken"] = token
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._client.close()

    def flows(self) -> list[dict[str, Any]]:
        return list(self._client.get("/flows").json())

    def when(self, seen: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The flows, as soon as they are as wanted."""
        deadline = time.monotonic() + PATIENCE
        while not seen(flows := self.flows()):
            assert time.monotonic() < deadline, flows
            time.sleep(0.05)
        return flows

    def answered(self, number: int) -> list[dict[str, Any]]:
        """The flows, when so many of them are over."""
        return self.when(lambda flows: sum(_is_over(flow) for flow in flows) >= number)

    def shown(self, flow: dict[str, Any], part: str) -> str:
        """`part`: request or response, in our view."""
        reply = self._client.get(f"/flows/{flow['id']}/{part}/content/{VIEW}.json")
        return str(reply.json()["text"])

    def body(self, flow: dict[str, Any], part: str) -> bytes:
        return self._client.get(f"/flows/{flow['id']}/{part}/content.data").content

    def edit(self, flow: dict[str, Any], **request: Any) -> None:
        self._client.put(f"/flows/{flow['id']}", json={"request": request}).raise_for_status()

    def resume(self, flow: dict[str, Any]) -> None:
        self._client.post(f"/flows/{flow['id']}/resume").raise_for_status()

    def mark(self, flow: dict[str, Any]) -> None:
        self._client.put(f"/flows/{flow['id']}", json={"marked": ":default:"}).raise_for_status()

    def commands(self) -> list[str]:
        return list(self._client.get("/commands.json").json())

    def command(self, name: str, *arguments: str) -> Any:
        """Its result, or {"error": ...}."""
        reply = self._client.post(f"/commands/{name}", json={"arguments": arguments}).raise_for_status().json()
        return reply if "error" in reply else reply["value"]

    def saved(self) -> bytes:
        return self._client.get("/flows/dump").raise_for_status().content


def _is_over(flow: dict[str, Any]) -> bool:
    return bool(flow.get("error") or (flow.get("response") or {}).get("timestamp_end"))
