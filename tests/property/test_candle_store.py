"""Laws of the store of candles: neither order nor batches nor repeats change what it holds, and it holds the newest."""

from collections.abc import Sequence
from zlib import crc32

import orjson
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.intervals import INTERVALS
from server.candles.rows import decode_candles, decode_indicators, decode_signals
from server.candles.store import CandleStore
from server.rest.tables import candles, indicators, signals

NOW_MS = 1_790_000_000_000
MOST = 5
SYMBOLS = ("BTCUSDT", "ETHUSDT")
PERIODS = ("1m", "1d")
Record = dict[str, object]


def seeded(*parts: object) -> int:
    """A number that follows from these."""
    return int(crc32(repr(parts).encode())) ** 2


def key(draw: st.DrawFn) -> Record:
    interval = draw(st.sampled_from(PERIODS))
    length_ms = INTERVALS[interval]
    opened = NOW_MS // length_ms * length_ms - draw(st.integers(1, 9)) * length_ms
    return {"s": draw(st.sampled_from(SYMBOLS)), "i": interval, "t": opened, "T": opened + length_ms - 1}


@st.composite
def candle(draw: st.DrawFn) -> Record:
    """A candle whose content follows from its identity, so that none has two."""
    record = key(draw) | {"revision": draw(st.integers(0, 3))}
    seed = seeded(record["s"], record["t"], record["revision"])
    price, volume = f"{1 + seed % 997}.{seed % 10**8:08d}", f"{seed % 10**15}.{seed % 10**8:08d}"
    record |= dict.fromkeys("ohlc", price) | dict.fromkeys("vqVQ", volume)
    ids = {"f": None if seed % 2 else seed % 2**62, "L": None if seed % 2 else seed % 2**62}
    return record | ids | {"n": seed % 999, "klines": seed % 61, "complete": seed % 3 > 0, "origin": "built" if seed % 5 else "history"}


@st.composite
def indicator(draw: st.DrawFn) -> Record:
    """The same for indicators; which values there are differs from record to record, as after a change of settings."""
    record = key(draw) | {"since": draw(st.integers(1, 3)), "revision": draw(st.integers(0, 2))}
    seed = seeded(record["s"], record["t"], record["since"], record["revision"])
    names = [f"rsi_{period}" for period in range(seed % 4)]
    values = {name: None if (seed + place) % 3 == 0 else seed / (place + 7) for place, name in enumerate(names)}
    return record | {"c": seed / 3, "values": values, "unready": [name for place, name in enumerate(names) if seed >> place & 1]}


@st.composite
def signal(draw: st.DrawFn) -> Record:
    record = key(draw) | {"since": draw(st.integers(1, 3)), "revision": draw(st.integers(0, 2))}
    record |= {"side": draw(st.sampled_from(("buy", "sell"))), "rule": draw(st.sampled_from(("rsi", "macd_cross")))}
    seed = seeded(record["t"], record["since"], record["revision"])
    identity = ":".join(str(record[name]) for name in ("s", "i", "rule", "side", "t"))
    told = {"price": seed / 3, "value": seed / 7, "limit": 30.0, "reason": f"because of {seed % 97}"}
    return record | told | {"id": identity, "state": "fired" if seed % 2 else "withdrawn"}


def held(batches: Sequence[Sequence[Record]], kind: str) -> dict[tuple[str, str], list[Record]]:
    """What a store holds after it took these batches."""
    store = CandleStore(MOST, signals_most=MOST)
    for batch in batches:
        lines = [orjson.dumps(record) for record in batch]
        if kind == "candles":
            found, table = decode_candles(lines, NOW_MS), store.candles
        elif kind == "indicators":
            found, table = decode_indicators(lines, NOW_MS, store.names), store.indicators
        else:
            found, table = decode_signals(lines, NOW_MS), store.signals
        assert (found.rejected, table.put(found.series, found.rows)) == (0, 0)
    return {(symbol, interval): shown(store, kind, symbol, interval) for symbol in SYMBOLS for interval in PERIODS}


def shown(store: CandleStore, kind: str, symbol: str, interval: str) -> list[Record]:
    if kind == "candles":
        table = candles(symbol, interval, store.candles.rows(symbol, interval))
    elif kind == "indicators":
        table = indicators(symbol, interval, store.indicators.rows(symbol, interval), store.names.names)
    else:
        table = signals(symbol, [(interval, row) for row in store.signals.rows(symbol, interval)])
    columns = zip(*table.columns.values(), strict=True)
    records = table.records() if table.records else [dict(zip(table.columns, row, strict=True)) for row in columns]
    return [without_nothing(record) for record in records]


def without_nothing(record: Record) -> Record:
    """A value that is not there and one that is null are the same to a reader; names may come in another order."""
    values = record.get("values")
    if not isinstance(values, dict):
        return record
    unready = record["unready"]
    assert isinstance(unready, list)
    return record | {"values": {name: values[name] for name in sorted(values) if values[name] is not None}, "unready": sorted(unready)}


def by_hand(records: Sequence[Record], kind: str) -> dict[tuple[str, str], list[Record]]:
    """The same by plain Python, apart from the store's code."""
    names = ("t", "rule", "side") if kind == "signals" else ("t",)
    found: dict[tuple[str, str], dict[tuple[object, ...], Record]] = {(s, i): {} for s in SYMBOLS for i in PERIODS}
    for record in records:
        series = found[(str(record["s"]), str(record["i"]))]
        place = tuple(record[name] for name in names)
        rank = (record["revision"], -int(str(record.get("since", 0))))
        other = series.get(place)
        if other is None or rank > (other["revision"], -int(str(other.get("since", 0)))):  # type: ignore[operator]  # both are ints
            series[place] = record
    return {
        key: [without_nothing(series[place]) for place in sorted(series, key=repr)][-MOST:]  # all times have as many digits
        for key, series in found.items()
    }


def split(records: Sequence[Record], sizes: Sequence[int]) -> list[Sequence[Record]]:
    """The records in batches of these sizes, the last one with what is left."""
    batches, rest = [], records
    for size in sizes:
        batches.append(rest[:size])
        rest = rest[size:]
    return [*batches, rest]


KINDS = {"candles": candle(), "indicators": indicator(), "signals": signal()}


@given(st.data(), st.sampled_from(sorted(KINDS)))
def test_the_newest_best_records_are_held_whatever_the_order(data: st.DataObject, kind: str) -> None:
    """Any order, split and repetition gives the same: of each identity the best record, the newest ones of each series."""
    records = data.draw(st.lists(KINDS[kind], max_size=40))
    again = data.draw(st.permutations([*records, *records[: len(records) // 2]]))
    batches = split(again, data.draw(st.lists(st.integers(0, 7), max_size=12)))
    expected = by_hand(records, kind)
    assert held([records], kind) == expected
    assert held(batches, kind) == expected
