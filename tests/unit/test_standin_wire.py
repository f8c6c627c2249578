import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame as ReadFrame
from websockets.frames import Opcode
from websockets.streams import StreamReader

from klinestream.standin import wire
from klinestream.standin.frames import Frame, Unit
from klinestream.standin.streams import parse


def read(data: bytes, extensions: list[PerMessageDeflate] | None = None) -> list[ReadFrame]:
    """Frames as the library `websockets` reads them."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    frames = []
    while not (at_eof := step(reader.at_eof())):
        frames.append(step(ReadFrame.parse(reader.read_exact, mask=False, extensions=extensions)))
    assert at_eof
    return frames


def step(generator):  # type: ignore[no-untyped-def]  # the library's sans-I/O readers, run to their end
    """The result of a reader that has all its data."""
    try:
        while True:
            next(generator)
    except StopIteration as stop:
        return stop.value


payloads = st.binary(max_size=400) | st.integers(0, 70_000).map(lambda size: b"x" * size)


@given(st.lists(payloads, max_size=4))
def test_plain_frames(sent: list[bytes]) -> None:
    """An independent reader gets back what was framed, of any length and in one go."""
    frames = read(b"".join(wire.frame(payload) for payload in sent))
    assert [bytes(frame.data) for frame in frames] == sent
    assert all(frame.fin and frame.opcode is Opcode.TEXT for frame in frames)


@pytest.mark.parametrize("context_kept", [True, False])
@pytest.mark.parametrize("window_bits", [9, 15])
@given(sent=st.lists(payloads, max_size=4))
def test_deflated_frames(sent: list[bytes], context_kept: bool, window_bits: int) -> None:
    """A permessage-deflate client inflates them, whatever window and context it negotiated, and one stream's frames suit all."""
    extension = PerMessageDeflate(
        remote_no_context_takeover=not context_kept,
        local_no_context_takeover=False,
        remote_max_window_bits=window_bits,
        local_max_window_bits=15,
    )
    frames = read(b"".join(wire.deflated_frame(payload) for payload in sent), [extension])
    assert [bytes(frame.data) for frame in frames] == sent


def test_deflated_frames_are_smaller() -> None:
    """A kline's frame shrinks."""
    text = b'{"e":"kline","E":1672515782136,"s":"BNBBTC","k":{"t":1672515780000,"T":1672515839999,"o":"0.0010","c":"0.0010"}}'
    assert len(wire.deflated_frame(text)) < len(text)


def test_each_form_is_made_once() -> None:
    """A frame's payload is rendered once a unit of time, and its bytes once a form."""
    rendered = list[Unit]()

    def render(unit: Unit) -> bytes:
        rendered.append(unit)
        return b'{"E":%d}' % unit.value

    stream = parse("btcusdt@trade")
    assert stream is not None
    frame = Frame(stream, render)
    forms = [(unit, combined, deflated) for unit in Unit for combined in (False, True) for deflated in (False, True)] * 2
    made = [frame.wire(unit, combined=combined, deflated=deflated) for unit, combined, deflated in forms]
    assert rendered == list(Unit)
    assert all(first is second for first, second in zip(made[:8], made[8:], strict=True))
    assert made[2] == wire.frame(b'{"stream":"btcusdt@trade","data":{"E":1}}')
