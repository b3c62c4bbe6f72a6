"""The addons of the proxy, for `addons/llm.py` and for `llm-proxy serve`."""

from llm_interactive.mitm.content_views import ContentViews
from llm_interactive.mitm.gateway import Gateway


def addons() -> list[object]:
    return [Gateway(), ContentViews()]
