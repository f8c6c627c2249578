"""JSON and MessagePack, each as the same few steps: records once for all clients, messages joined from what is encoded. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgpack
import orjson


class Encoding(Protocol):
    """How messages are written. All of it gives bytes that stand for one value, and can be joined to greater ones."""

    name: str
    is_text: bool

    def value(self, value: Any) -> bytes:
        """Any value of the protocol."""

    def record(self, value: bytes) -> bytes:
        """A record, given as the JSON of its topic."""

    def array(self, parts: Sequence[bytes]) -> bytes:
        """An array of encoded values."""

    def mapping(self, head: Mapping[str, Any], encoded: Mapping[str, bytes]) -> bytes:
        """An object: fields as they are, then fields that are encoded already. `head` isn't empty."""


class Json:
    """Text; records stand in it byte for byte."""

    name = "json"
    is_text = True

    def value(self, value: Any) -> bytes:
        """See `Encoding`."""
        return orjson.dumps(value)

    def record(self, value: bytes) -> bytes:
        """See `Encoding`."""
        return value

    def array(self, parts: Sequence[bytes]) -> bytes:
        """See `Encoding`."""
        return b"[" + b",".join(parts) + b"]"

    def mapping(self, head: Mapping[str, Any], encoded: Mapping[str, bytes]) -> bytes:
        """See `Encoding`."""
        fields = [b',"' + name.encode() + b'":' + part for name, part in encoded.items()]
        return b"".join((orjson.dumps(head)[:-1], *fields, b"}"))


class MessagePack:
    """Binary: about a fifth smaller, and no text of numbers to read."""

    name = "msgpack"
    is_text = False

    def __init__(self) -> None:
        """Each call packs one value whole."""
        self._packer = msgpack.Packer()

    def value(self, value: Any) -> bytes:
        """See `Encoding`."""
        return bytes(self._packer.pack(value))

    def record(self, value: bytes) -> bytes:
        """See `Encoding`."""
        return bytes(self._packer.pack(orjson.loads(value)))

    def array(self, parts: Sequence[bytes]) -> bytes:
        """See `Encoding`."""
        return bytes(self._packer.pack_array_header(len(parts))) + b"".join(parts)

    def mapping(self, head: Mapping[str, Any], encoded: Mapping[str, bytes]) -> bytes:
        """See `Encoding`."""
        pack = self._packer.pack
        parts = [self._packer.pack_map_header(len(head) + len(encoded))]
        for name, value in head.items():
            parts += (pack(name), pack(value))
        for name, part in encoded.items():
            parts += (pack(name), part)
        return b"".join(parts)


JSON: Final = Json()
MESSAGE_PACK: Final = MessagePack()
ENCODINGS: Mapping[str, Encoding] = {JSON.name: JSON, MESSAGE_PACK.name: MESSAGE_PACK}
