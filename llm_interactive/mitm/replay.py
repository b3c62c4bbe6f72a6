"""Sends a flow again, through our layer: mitmproxy's own replay knows nothing of attempts, keys and translation."""

from mitmproxy import ctx, http
from mitmproxy.addons.clientplayback import ReplayHandler

from llm_interactive.mitm.gateway import exchanges
from llm_interactive.mitm.upstream import LlmHttpLayer


def twin(flow: http.HTTPFlow) -> http.HTTPFlow:
    """A new flow with the same request, not sent yet."""
    new: http.HTTPFlow = flow.copy()
    new.response, new.error, new.websocket = None, None, None
    new.comment, new.marked, new.metadata = "", "", {}
    new.is_replay = "request"
    return new


async def send(flow: http.HTTPFlow) -> None:
    """Until the reply, or the error, is there."""
    handler = ReplayHandler(flow, ctx.options)
    LlmHttpLayer.take_over(handler.layer, exchanges)
    await handler.replay()
