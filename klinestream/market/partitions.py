"""Which partition a key belongs to: murmur2, as Kafka's Java client and kafka-python choose it.

Formula: Austin Appleby's MurmurHash2 (2008) with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2).
"""

from functools import lru_cache

_MASK = 0xFFFFFFFF
_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """The 32-bit hash, unsigned.

    >>> murmur2(b"BTCUSDT")
    3453253906
    """
    h = (_SEED ^ len(data)) & _MASK
    words, tail = divmod(len(data), 4)
    for i in range(words):
        k = int.from_bytes(data[4 * i : 4 * i + 4], "little") * _MULTIPLIER & _MASK
        h = (h * _MULTIPLIER & _MASK) ^ ((k ^ (k >> 24)) * _MULTIPLIER & _MASK)
    if tail:
        h = (h ^ int.from_bytes(data[4 * words :], "little")) * _MULTIPLIER & _MASK
    h = (h ^ (h >> 13)) * _MULTIPLIER & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=65_536)
def partition_of(key: str, partitions: int) -> int:
    """The partition of a key among `partitions`."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
