"""The short way to a client's socket: a frame that many clients share, written straight to its transport.

    by ASGI   a task wakes ─► event ─► Starlette ─► uvicorn ─► a frame of its own ─► transport
    a link    the frame, made once ────────────────────────────────────────────────► transport

A link takes only what can be sent at once; all else goes by ASGI.
"""

from typing import Final

from starlette.websockets import WebSocket
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from server.access.connections import BoundedWebSocket

EXTENSION: Final = "klinestream.link"
"""Its name among the extensions of an ASGI scope."""


def text_frame(payload: bytes) -> bytes:
    """A whole message of text on the wire; a server's frames aren't masked, so all clients may get the same one.

    >>> text_frame(b"{}")
    b'\\x81\\x02{}'
    """
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


def binary_frame(payload: bytes) -> bytes:
    """A whole binary message on the wire."""
    return Frame(Opcode.BINARY, payload).serialize(mask=False)


class Link:
    """One client's transport, from the accepted handshake on."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: BoundedWebSocket) -> None:
        """Of this connection."""
        self._protocol = protocol

    @property
    def compresses(self) -> bool:
        """Whether each message depends on those before it, so that no frame is the same for two clients."""
        return bool(self._protocol.conn.extensions)

    @property
    def lost(self) -> bool:
        """Whether nobody is there any more."""
        return self._protocol.transport.is_closing()

    def write(self, frames: bytes) -> bool:
        """Send whole frames; False, and nothing is sent, if the end is near, or what was written before still waits for the client.

        What the socket doesn't take of them is buffered, and then the next ones are refused.
        """
        protocol = self._protocol
        transport = protocol.transport
        if not protocol.writable.is_set() or protocol.conn.state is not State.OPEN or transport.is_closing():
            return False
        transport.write(frames)
        return True


class LinkedWebSocket(BoundedWebSocket):
    """A websocket that tells the application of its link."""

    async def run_asgi(self) -> None:
        """Run the application."""
        extensions: dict[str, object] = dict(self.scope["extensions"] or {})
        self.scope["extensions"] = {**extensions, EXTENSION: Link(self)}  # type: ignore[dict-item]  # not a table, but ours alone
        await super().run_asgi()


def link_of(websocket: WebSocket) -> Link | None:
    """An accepted connection's link; None if it compresses, or under a server that gives none."""
    found = (websocket.scope.get("extensions") or {}).get(EXTENSION)
    return found if isinstance(found, Link) and not found.compresses else None
