"""A digest of records that doesn't depend on how they stand in files: the sum of each record's own.

So a file made of others has the sum of their digests, and the records of a topic can be compared with those of files without
holding either of them.
"""

from collections.abc import Iterable
from hashlib import blake2b

from klinestream.runtime.kafka import Record

_BYTES = 16
_ALL = 1 << 8 * _BYTES


def digest(records: Iterable[Record]) -> int:
    """Sum of the records' BLAKE2b digests of 128 bits: of place, time, key, value and headers (in order of name), modulo 2**128."""
    return sum(map(_of, records)) % _ALL


def joined(digests: Iterable[int]) -> int:
    """The digest of all records of several disjoint sets."""
    return sum(digests) % _ALL


def shown(value: int) -> str:
    """As text, 32 hexadecimal digits.

    >>> shown(255)
    '000000000000000000000000000000ff'
    """
    return f"{value:0{2 * _BYTES}x}"


def _of(record: Record) -> int:
    found = blake2b(b"%d %d %d " % (record.partition, record.offset, record.timestamp_ms), digest_size=_BYTES)
    for part in (record.key, record.value):
        found.update(b"-" if part is None else b"%d:%b" % (len(part), part))
    for name, value in sorted(record.headers, key=lambda header: (header[0], header[1] or b"")):
        found.update(b"%b=%b;" % (name.encode(), b"-" if value is None else b"%d:%b" % (len(value), value)))
    return int.from_bytes(found.digest(), "big")
