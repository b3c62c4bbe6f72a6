"""The addons of the proxy, for `addons/llm.py` and for `llm-proxy serve`."""

from llm_interactive.mitm.content_views import ContentViews
from llm_interactive.mitm.flow_commands import FlowCommands
from llm_interactive.mitm.gateway import Gateway
from llm_interactive.mitm.interception import Interception
from llm_interactive.mitm.sockets import Sockets


def addons() -> list[object]:
    gateway = Gateway()
    return [
        gateway,
        Interception(lambda: gateway.settings),
        Sockets(gateway.provider, gateway.redactor, gateway.record),
        ContentViews(),
        FlowCommands(gateway.prepare_replay),
    ]
