"""Records of candles, indicators and signals as items, from the rows that they were decoded to. Pure."""

from collections.abc import Callable, Sequence

from klinestream.market.kinds import RecordKind
from klinestream.runtime.kafka import Record
from server.candles.rows import Decoded
from server.stream.series import Item, Series

Decode = Callable[[Sequence[bytes | None]], Decoded]


def items_of(kind: RecordKind, records: Sequence[Record], decoded: Decoded, decode: Decode) -> list[Item]:
    """The records that could be decoded, as items, in their order; of a batch with faults each is decoded again, alone."""
    if not decoded.rejected:
        return _items(kind, records, decoded)
    return [item for record in records for item in _items(kind, [record], decode([record.value]))]


def _items(kind: RecordKind, records: Sequence[Record], decoded: Decoded) -> list[Item]:
    rows = decoded.rows
    if not len(rows):
        return []
    times, revisions = rows["t"].tolist(), rows["revision"].tolist()
    since, klines, details = [0] * len(rows), [0] * len(rows), [""] * len(rows)
    if kind is RecordKind.CANDLES:
        klines = rows["klines"].tolist()
    else:
        since = rows["since"].tolist()
    if kind is RecordKind.SIGNALS:
        details = [f"{rule.decode()}:{side.decode()}" for rule, side in zip(rows["rule"].tolist(), rows["side"].tolist(), strict=True)]
    columns = zip(records, decoded.series, times, revisions, since, details, klines, strict=True)
    return [
        Item(
            Series(kind, symbol, interval), time_ms, revision, since_ms, record.partition, record.offset, record.value or b"", detail, count
        )
        for record, (symbol, interval), time_ms, revision, since_ms, detail, count in columns
    ]
