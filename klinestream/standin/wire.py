"""Websocket frames as bytes, made once and sent to every connection that wants them.

A server's frames are not masked, so one frame is the same bytes on each connection. Compressed frames are as well, as
each is deflated on its own and with the smallest window: any client that negotiated permessage-deflate, with whatever
parameters, can inflate it (RFC 7692, section 7.1.1: a sender may always use less context than was agreed).
"""

import enum
import struct
import zlib

_LEAST_WINDOW_BITS = 9
# 512 bytes of window need no more than the least memory level; it makes setting up a compressor cheap.
_MEMORY_LEVEL = 1
_SYNC_FLUSH_TAIL = b"\x00\x00\xff\xff"
_FIN = 0x80
_RSV1_COMPRESSED = 0x40


class Opcode(enum.IntEnum):
    """What a frame carries (RFC 6455, section 5.2)."""

    TEXT = 0x1
    PING = 0x9
    PONG = 0xA


def frame(payload: bytes, opcode: Opcode = Opcode.TEXT) -> bytes:
    """One unfragmented, uncompressed frame.

    >>> frame(b"{}")
    b'\\x81\\x02{}'
    """
    return _header(_FIN | opcode, len(payload)) + payload


def deflated_frame(payload: bytes) -> bytes:
    """One unfragmented text frame, compressed so that any permessage-deflate client can read it."""
    deflate = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, -_LEAST_WINDOW_BITS, _MEMORY_LEVEL)
    packed = (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_SYNC_FLUSH_TAIL)
    return _header(_FIN | _RSV1_COMPRESSED | Opcode.TEXT, len(packed)) + packed


def _header(first: int, length: int) -> bytes:
    if length < 126:
        return struct.pack("!BB", first, length)
    if length < 1 << 16:
        return struct.pack("!BBH", first, 126, length)
    return struct.pack("!BBQ", first, 127, length)
