"""Where a model's process goes on: found from what it has said, in `crypto_predictions` itself. No second place could disagree.

    crypto_predictions, a partition   ·· p(10:07) p(10:08)│                    the newest that this model said
    crypto_indicators, the same one   ·· i(10:07) i(10:08) i(10:09)            read again from the first one of 10:08 on

Records of a partition are taken in order and predictions acknowledged in order, so all before the newest one are dealt with. A model
that hears other symbols begins 60 moments earlier: some symbols may not have been there yet. What is said again is the same record.
"""

from collections.abc import Mapping

import orjson

from klinestream.market.intervals import INTERVALS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import INDICATORS, PREDICTIONS
from klinestream.models.storage import Stored
from klinestream.replay.repairs.reading import Stretches
from klinestream.runtime.kafka import Reader, Record

_MOMENTS_BACK = 60
_LOOK_BACK = 1000  # offsets at first, then four times as many, and so on
LOOK_BACK_MOST = 200_000
"""A model whose newest prediction lies further back begins anew."""


def resume(reader: Reader, stored: Stored, hears_others: bool, from_ms: int) -> dict[tuple[str, int], int]:
    """Place → offset to go on from, of all partitions that hold the model's symbols. Raises BrokerError.

    Where nothing was said yet it begins at `from_ms`, or where the others are if that is earlier.
    """
    count = len(reader.partitions(INDICATORS.name))
    partitions = sorted({partition_of(symbol, count) for symbol in stored.header.symbols})
    length_ms = INTERVALS[stored.header.task.interval]
    said = {partition: opened + length_ms - 1 for partition, opened in newest(reader, stored.id).items()}
    begun = {partition: said.get(partition, min([from_ms, *said.values()])) for partition in partitions}
    if hears_others:
        least = min(begun.values()) - (_MOMENTS_BACK * length_ms if said else 0)
        begun = dict.fromkeys(partitions, least)
    return {(INDICATORS.name, each): reader.offsets_at(INDICATORS.name, at_ms)[each] for each, at_ms in begun.items()}


def newest(reader: Reader, model: str) -> dict[int, int]:
    """Partition → newest open time that a model has said something of. Raises BrokerError."""
    found: dict[int, int] = {}
    for partition, (first, end) in reader.bounds(PREDICTIONS.name).items():
        back, upper, least = _LOOK_BACK, end, max(first, end - LOOK_BACK_MOST)
        while partition not in found and upper > least:
            lower = max(least, upper - back)
            places: Mapping[tuple[str, int], tuple[int, int]] = {(PREDICTIONS.name, partition): (lower, upper)}
            times = [
                opened
                for records in Stretches(reader).read(places, with_markers=True)
                for record in records
                if (opened := _said(record, model)) is not None
            ]
            if times:
                found[partition] = max(times)
            back, upper = 4 * back, lower
    return found


def _said(record: Record, model: str) -> int | None:
    try:
        value = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or value.get("model") != model or not isinstance(value.get("t"), int):
        return None
    return int(value["t"])
