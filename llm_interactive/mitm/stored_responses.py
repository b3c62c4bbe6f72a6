"""`/v1/responses/{id}` for responses that the proxy keeps itself; others are their provider's (TRAPS T96)."""

import re

from mitmproxy import http

from llm_interactive.exchange import Exchange
from llm_interactive.mitm.management import json_response
from llm_interactive.protocols.openai_responses_store import write_deleted

_PATH = re.compile(r"(?:/v1)*/responses/(?P<id>[^/]+)(?P<items>/input_items)?")


def answer(exchange: Exchange, method: str) -> http.Response | None:
    match = _PATH.fullmatch(exchange.call.path)
    store = exchange.configuration.responses
    if match is None or not store.knows(match["id"]):
        return None
    if method == "GET":
        return json_response(200, store.input_items(match["id"]) if match["items"] else store.response(match["id"]))
    if method == "DELETE" and not match["items"]:
        store.forget(match["id"])
        return json_response(200, write_deleted(match["id"]))
    return None
