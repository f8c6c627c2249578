"""One message of one stream, in each of the forms in which connections want it, each made once."""

import enum
from collections.abc import Callable

from klinestream.standin import wire
from klinestream.standin.streams import Stream


class Unit(enum.Enum):
    """Unit of the times in a connection's frames."""

    MILLISECOND = 1
    MICROSECOND = 1000


class Frame:
    """A message of a stream."""

    __slots__ = ("_payloads", "_render", "_wires", "stream")

    def __init__(self, stream: Stream, render: Callable[[Unit], bytes]) -> None:
        """`render` makes the payload, with its times in the unit asked for."""
        self.stream = stream
        self._render = render
        self._payloads: dict[Unit, bytes] = {}
        self._wires: dict[tuple[Unit, bool, bool], bytes] = {}

    def payload(self, unit: Unit) -> bytes:
        """The payload as a raw stream carries it."""
        made = self._payloads.get(unit)
        if made is None:
            made = self._payloads[unit] = self._render(unit)
        return made

    def wire(self, unit: Unit, *, combined: bool, deflated: bool) -> bytes:
        """The bytes that go to a socket."""
        form = (unit, combined, deflated)
        made = self._wires.get(form)
        if made is None:
            text = self.payload(unit)
            if combined:
                text = b'{"stream":"%b","data":%b}' % (self.stream.name.encode(), text)
            made = self._wires[form] = wire.deflated_frame(text) if deflated else wire.frame(text)
        return made
