"""What one event gives to write goes out in one piece: mitmproxy makes a system call of every `SendData`, which costs
more than all the rest of an event, and what a provider sends in a burst comes as an event a chunk."""

from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, layer

type Commands = layer.CommandGenerator[None]


def joined(sources: Commands) -> Commands:
    """The same commands in the same order, with neighbours that write to one connection made one."""
    to: Connection | None = None
    pieces: list[bytes] = []
    answer = None
    while True:
        try:
            command = sources.send(answer)
        except StopIteration:
            break
        except Exception:  # what was written before it goes out before it
            if to is not None:
                yield commands.SendData(to, b"".join(pieces))
            raise
        answer = None
        connection = command.connection if isinstance(command, commands.SendData) else None
        if to is not None and to is not connection:
            yield commands.SendData(to, b"".join(pieces))
            pieces.clear()
        to = connection
        if isinstance(command, commands.SendData):
            pieces.append(command.data)
        else:
            answer = yield command
    if to is not None:
        yield commands.SendData(to, b"".join(pieces))
