"""uvicorn's websockets with the bounds that they lack: what a websocket may make us hold."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

FRAGMENTS_MOST = 64
"""A message has 4 KiB at most, and no client sends one in parts."""
UNSENT_MOST_BYTES = 1 << 20
"""A client that sends pings and takes no pongs is left when so much waits for it."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A websocket on which neither parts of a message that never ends nor pings fill the memory."""

    def handle_cont(self, event: Frame) -> None:
        """Take a further part of a message: an empty one costs too."""
        if len(self.frames) >= FRAGMENTS_MOST:
            self.transport.abort()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping: uvicorn does so whether the answers are taken or not."""
        if self.transport.get_write_buffer_size() > UNSENT_MOST_BYTES:
            self.transport.abort()
            return
        super().handle_ping()
