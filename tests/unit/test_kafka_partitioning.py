"""One key, one partition, whoever writes it: the values of Kafka's own clients."""

import kafka.partitioner
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.partitions import murmur2


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafka_s(key: bytes, expected: int) -> None:
    """The hash is that of Kafka's Java client (values of its UtilsTest.testMurmur2)."""
    assert murmur2(key) == expected % 2**32


@given(st.binary(max_size=40))
def test_murmur2_is_kafka_python_s(key: bytes) -> None:
    """The hash is kafka-python's, whatever the key."""
    assert murmur2(key) == kafka.partitioner.murmur2(key)
