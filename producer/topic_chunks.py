"""A feed's topic read in chunks of one partition, for what is looked for in it from either end."""

from collections import defaultdict
from collections.abc import Collection, Iterable

from klinestream.market.errors import BrokerError
from klinestream.market.partitions import partition_of
from klinestream.runtime.kafka import Reader, Record

_ROUNDS = 4  # records a symbol in a chunk, where all of a partition are followed
_CHUNK_LEAST = 200
_PATIENCE_POLLS = 50
_POLL_S = 0.2


def chunk_size(symbols: int) -> int:
    """Records in a chunk of a partition in which so many symbols are followed."""
    return max(_CHUNK_LEAST, _ROUNDS * symbols)


def by_partition(symbols: Collection[str], partitions: int) -> dict[int, list[str]]:
    """Partition → those of the symbols that are in it."""
    found: dict[int, list[str]] = defaultdict(list)
    for symbol in symbols:
        found[partition_of(symbol, partitions)].append(symbol)
    return found


def records_between(reader: Reader, topic: str, partition: int, begin: int, end: int) -> Iterable[Record]:
    """The records from offset `begin` to before `end`. Raises BrokerError if they don't come in time."""
    reader.assign({(topic, partition): begin})
    for _ in range(_PATIENCE_POLLS):
        for record in reader.poll(_POLL_S):
            if record.offset < end:
                yield record
            if record.offset >= end - 1:
                return
    raise BrokerError(f"expected {topic} up to offset {end} of partition {partition}, but nothing came: check the broker")
