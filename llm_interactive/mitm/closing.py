"""Closes what mitmproxy (12.2) leaves open: a connection whose task is cancelled while it waits for its turn keeps its
socket. A provider that was told to stop in the middle of a fast reply would never hear of it."""

from typing import TYPE_CHECKING

from mitmproxy import ctx
from mitmproxy.connection import Client, Connection

if TYPE_CHECKING:
    from mitmproxy.addons.proxyserver import Proxyserver


def close_for_good(client: Client, connection: Connection) -> None:
    """`connection`: the client's own, or one to a server on its behalf, that mitmproxy says is disconnected."""
    proxyserver: Proxyserver | None = ctx.master.addons.get("proxyserver")
    handler = proxyserver.connections.get(client.id) if proxyserver is not None else None
    left = handler.transports.get(connection) if handler is not None else None
    if left is not None and left.writer is not None:
        left.writer.close()
