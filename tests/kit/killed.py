"""A loaded proxy that is killed with SIGKILL: what its clients had seen to the end, and what is in its database."""

import random
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
from kit.proxy import RunningProxy, running_proxy

CLIENTS = 8
PATHS: Mapping[str, Mapping[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "one two three"}]},
    "/v1/responses": {"input": "one two three"},
    "/v1/messages": {"max_tokens": 99, "messages": [{"role": "user", "content": "one two three"}]},
}
ENDS = (b"[DONE]", b"response.completed", b"message_stop")


def round_of(home: Path, seed: int) -> tuple[int, list[str]]:
    """How many replies were seen to their end, and the request ids of those without a row."""
    chance = random.Random(seed)
    seen: list[str] = []
    with running_proxy(mode="serve", home=home) as proxy:
        threads = [threading.Thread(target=_ask, args=(proxy, seed * 100 + n, seen)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        wanted = chance.randrange(1, 40)
        while len(seen) < wanted:
            time.sleep(0.001)
        time.sleep(chance.random() / 2)
        proxy.kill()
        for thread in threads:
            thread.join()
        with closing(sqlite3.connect(proxy.data / "proxy.db")) as connection:
            rows = {id_ for (id_,) in connection.execute("SELECT request_id FROM usage WHERE status = 200")}
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return len(seen), [id_ for id_ in seen if id_ not in rows]


def _ask(proxy: RunningProxy, seed: int, seen: list[str]) -> None:
    """Until the proxy is gone."""
    chance = random.Random(seed)
    with httpx.Client(base_url=proxy.url, timeout=10, trust_env=False) as client:
        while True:
            path = chance.choice([*PATHS])
            streamed = chance.random() < 0.5
            body = {"model": "demo:echo", "stream": streamed, **PATHS[path]}
            try:
                with client.stream("POST", path, json=body) as reply:
                    got = b""
                    for data in reply.iter_raw():
                        got += data
                        if streamed and any(end in got for end in ENDS):
                            break
            except httpx.HTTPError:
                return
            seen.append(reply.headers["x-llm-proxy-request-id"])
