"""Hooks of this proxy beside mitmproxy's own: `upstream.py` fires them, the gateway answers them."""

from dataclasses import dataclass

from mitmproxy import http
from mitmproxy.proxy import commands

from llm_interactive.exchange import Exchange


@dataclass
class LlmRequestHook(commands.StartHook):
    """The request is as the client, and whoever changed it while mitmproxy held it, want it."""

    flow: http.HTTPFlow


@dataclass
class LlmNextAttemptHook(commands.StartHook):
    """Asks for the next attempt (`exchange.outgoing`) or, when there is none left, for `exchange.local`."""

    exchange: Exchange


@dataclass
class LlmReplyEndedHook(commands.StartHook):
    """The reply is over; the client has not seen its end yet."""

    exchange: Exchange
