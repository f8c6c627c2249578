"""Windows over trades as columns: values from exact sums, each divided once and rounded to the nearest float."""

from dataclasses import dataclass

import numpy as np
import orjson

from klinestream.market import trade_cells
from klinestream.market.decimals import UNIT, Floats, Ints
from klinestream.market.events import TradeWindow
from klinestream.market.indicators.protocol import Bools
from klinestream.market.trade_batch import PROOFS
from klinestream.market.trade_cells import Cells, integer
from klinestream.market.trade_runs import SINCE_ID, SINCE_MS, SYMBOL, TradeState

Values = list[float | None]


@dataclass(slots=True)
class TradeWindowRows:
    """Windows as columns; a symbol's in order of their ends."""

    size_ms: int
    symbols: list[str]
    ends: Ints
    close: list[float]
    average_price: Values
    average_by_volume: Values
    low: Values
    high: Values
    volume: list[float]
    buy_volume: Values
    sell_volume: Values
    points: list[int]
    whole: list[bool]
    since: list[int]
    since_ids: list[int]
    sources: list[str]
    proofs: list[str]
    rsi: Floats  # nan: none yet
    rsi_ready: Bools

    def __len__(self) -> int:
        return len(self.symbols)

    @classmethod
    def of(cls, state: TradeState, columns: Ints, ends: Ints, size_ms: int, cells: Cells) -> "TradeWindowRows":
        """Windows from what their trades add up to; without their RSI."""
        points = cells[trade_cells.COUNT].tolist()
        base, taken = (_sums(cells, field, 2) for field in (trade_cells.BASE, trade_cells.TAKER_BASE))
        known = (cells[trade_cells.UNKNOWN] == 0).tolist()
        # Python divides integers of any size, and rounds once; numpy would round the numerator before.
        averages = (s / (n * UNIT) if n else None for s, n in zip(_sums(cells, trade_cells.PRICE, 2), points, strict=True))
        by_volume = (s / (v * UNIT) if v else None for s, v in zip(_sums(cells, trade_cells.QUOTE, 5), base, strict=True))
        since = state.marks[SINCE_MS, columns]
        proofs = np.where(cells[trade_cells.COUNT] > 0, cells[trade_cells.PROOF], cells[trade_cells.NEWEST_PROOF])
        return cls(
            size_ms=size_ms,
            symbols=[state.symbols[number] for number in state.marks[SYMBOL, columns].tolist()],
            ends=ends,
            close=[price / UNIT for price in cells[trade_cells.CLOSE].tolist()],
            average_price=list(averages),
            average_by_volume=list(by_volume),
            low=[price / UNIT if n else None for price, n in zip(cells[trade_cells.LOW].tolist(), points, strict=True)],
            high=[price / UNIT if n else None for price, n in zip(cells[trade_cells.HIGH].tolist(), points, strict=True)],
            volume=[volume / UNIT for volume in base],
            buy_volume=[buy / UNIT if told else None for buy, told in zip(taken, known, strict=True)],
            sell_volume=[(both - buy) / UNIT if told else None for both, buy, told in zip(base, taken, known, strict=True)],
            points=points,
            whole=(ends - size_ms > since).tolist(),
            since=since.tolist(),
            since_ids=state.marks[SINCE_ID, columns].tolist(),
            sources=[state.sources[source] for source in cells[trade_cells.SOURCE].tolist()],
            proofs=[PROOFS[proof].value for proof in proofs.tolist()],
            rsi=np.zeros(0),
            rsi_ready=np.zeros(0, np.bool_),
        )

    def records(self) -> list[dict[str, object]]:
        """The windows one by one, by the names on the wire and in their order."""
        columns = (
            self.symbols,
            (self.ends - self.size_ms).tolist(),
            self.ends.tolist(),
            self.close,
            self.average_price,
            self.average_by_volume,
            self.low,
            self.high,
            self.volume,
            self.buy_volume,
            self.sell_volume,
            self.points,
            self.whole,
            [None if rsi != rsi else rsi for rsi in self.rsi.tolist()],  # noqa: PLR0124  # nan alone isn't itself
            self.rsi_ready.tolist(),
            self.since,
            self.since_ids,
            self.sources,
            self.proofs,
        )
        return [dict(zip(_NAMES, values, strict=True)) | {"revision": 0} for values in zip(*columns, strict=True)]

    def events(self) -> list[TradeWindow]:
        """The windows one by one."""
        return [TradeWindow(*record.values()) for record in self.records()]  # type: ignore[arg-type]  # in the order of its fields

    def lines(self) -> list[str]:
        """Lines of `crypto_trade_windows`: key, time and value between tabs. Field for field as `codec.encode_event`."""
        return [
            f"{symbol}\t{end - 1}\t{orjson.dumps(record).decode()}"
            for symbol, end, record in zip(self.symbols, self.ends.tolist(), self.records(), strict=True)
        ]


_NAMES = (
    "symbol",
    "window_start",
    "window_end",
    "close",
    "average_price",
    "average_by_volume",
    "low",
    "high",
    "volume",
    "buy_volume",
    "sell_volume",
    "points",
    "whole",
    "rsi",
    "rsi_ready",
    "since",
    "since_id",
    "source",
    "proof",
)


def _sums(cells: Cells, field: int, digits: int) -> list[int]:
    return [integer(list(row)) for row in zip(*cells[field : field + digits].tolist(), strict=True)]
