"""Every event's fields, defined once: wire name, kind, and what it means.

The codec, the SQL, database schemas and docs/topics.md are made from these classes or checked against them. A price
is an integer of 1e-8, the exchange's own eight decimals, and so is a volume (as one Python int; in arrays a volume is
two int64, since a day's volume of a cheap coin passes what one holds). Times are milliseconds since 1970, UTC.
"""

import enum
from dataclasses import Field, dataclass, field, fields
from typing import Any

SECOND_MS = 1000
KLINE_INTERVAL = "1s"
# In base64, with its record around it, this stays below the 1 MiB that a broker takes; a kline's frame has 400 bytes.
RAW_BYTES_MOST = 512 * 1024
GAP_TEXT_MOST = 300  # characters: a reader holds many gaps, and a table shows them


class Kind(enum.StrEnum):
    """How a field looks on the wire."""

    TEXT = "text"
    NOTE = "text, may be empty"
    TIME_MS = "integer, ms since 1970 UTC"
    PRICE = "decimal string, 8 decimals"
    VOLUME = "decimal string with 8 decimals, any size"
    COUNT = "integer"
    TRADE_ID = "integer, -1 where no trade fell in the second, null where unknown"
    NUMBER = "number"
    FLAG = "true or false"
    NAMES = "list of text"
    NUMBERS = "object: name to number or null"
    ROWS = "list of rows"
    ROWS_BY_NAME = "object: name to a row"
    BASE64 = "base64 of raw bytes"


def wire(name: str, kind: Kind, meaning: str, *, nullable: bool = False, default: Any = ...) -> Any:
    """A dataclass field with its name on the wire, its kind and its meaning."""
    metadata = {"wire": name, "kind": kind, "meaning": meaning, "nullable": nullable}
    return field(metadata=metadata) if default is ... else field(metadata=metadata, default=default)


class Origin(enum.StrEnum):
    """Where a kline came from."""

    LIVE = "live"
    DERIVED = "derived"
    REST = "rest"
    BUILT = "built"
    """From trades, here."""
    POSTED = "posted"
    """Over HTTP."""
    FILE = "file"


class Proof(enum.StrEnum):
    """What proves that nothing is missing before a record."""

    IDS = "ids"
    """Its ids continue those of the record before."""
    COUNT = "count"
    """The source gave as many trades as ids are missing."""
    NONE = "none"
    """The source gives nothing to prove it by."""


BINANCE = "binance"


def binance_proof(last_trade_id: int | None, origin: str) -> Proof:
    """What proves a kline of Binance's; older records, which don't say so themselves, are of Binance and proved like this.

    >>> binance_proof(7, Origin.DERIVED).value, binance_proof(7, Origin.REST).value, binance_proof(None, Origin.LIVE).value
    ('ids', 'count', 'none')
    """
    if last_trade_id is None:
        return Proof.NONE
    return Proof.COUNT if origin == Origin.REST else Proof.IDS


@dataclass(frozen=True, slots=True)
class Kline:
    """One closed 1 s kline of one symbol, with the exchange's own names on the wire."""

    symbol: str = wire("s", Kind.TEXT, "symbol, upper case")
    open_time_ms: int = wire("t", Kind.TIME_MS, "open time, a whole second")
    close_time_ms: int = wire("T", Kind.TIME_MS, "close time: open time + 999; the record's timestamp and event time")
    open: int = wire("o", Kind.PRICE, "first price")
    high: int = wire("h", Kind.PRICE, "greatest price")
    low: int = wire("l", Kind.PRICE, "least price")
    close: int = wire("c", Kind.PRICE, "last price; without trades the close before")
    base_volume: int = wire("v", Kind.VOLUME, "volume in base units")
    quote_volume: int = wire("q", Kind.VOLUME, "volume in quote units")
    taker_base_volume: int = wire("V", Kind.VOLUME, "base volume where the buyer was the taker")
    taker_quote_volume: int = wire("Q", Kind.VOLUME, "quote volume where the buyer was the taker")
    trades: int = wire("n", Kind.COUNT, "number of trades")
    first_trade_id: int | None = wire("f", Kind.TRADE_ID, "id of its first trade", nullable=True)
    last_trade_id_within: int | None = wire("L", Kind.TRADE_ID, "id of its last trade", nullable=True)
    last_trade_id: int | None = wire(
        "last_trade_id", Kind.TRADE_ID, "id of the newest trade up to its close, through quiet seconds too", nullable=True
    )
    origin: Origin = wire(
        "origin", Kind.TEXT, "live, derived (a proved quiet second), rest, built (from trades), posted (over HTTP) or file"
    )
    source: str = wire("source", Kind.TEXT, "where it came from: binance, finnhub, or who posted it", default=BINANCE)
    proof: Proof = wire("proof", Kind.TEXT, "ids, count or none: what proves that no trade is missing before its close", default=Proof.IDS)


@dataclass(frozen=True, slots=True)
class Window:
    """One complete sliding window of one symbol: the klines whose close time lies in [start, end)."""

    symbol: str = wire("symbol", Kind.TEXT, "symbol, upper case")
    start_ms: int = wire("window_start", Kind.TIME_MS, "start, inclusive")
    end_ms: int = wire("window_end", Kind.TIME_MS, "end, exclusive; the record's timestamp is one less")
    close: float = wire("close", Kind.NUMBER, "close of its newest kline: the price at its end")
    average_price: float = wire("average_price", Kind.NUMBER, "mean of the closes")
    low: float = wire("low", Kind.NUMBER, "least low")
    high: float = wire("high", Kind.NUMBER, "greatest high")
    volume: float = wire("volume", Kind.NUMBER, "sum of base volume")
    points: int = wire("points", Kind.COUNT, "how many klines it holds; fewer than usual at the start of a run")
    rsi: float | None = wire("rsi", Kind.NUMBER, "Wilder's RSI of the averages; null before its seed", nullable=True)
    rsi_ready: bool = wire("rsi_ready", Kind.FLAG, "true once the RSI has converged (150 steps for period 14)")
    since_ms: int = wire("since", Kind.TIME_MS, "open time of the first kline of the contiguous run it was computed from")
    revision: int = wire("revision", Kind.COUNT, "0, or higher where a repair replaced the value", default=0)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Something that could not be used, with all that is needed to find and replay it."""

    reason: str = wire("reason", Kind.TEXT, "why, short and stable")
    source: str = wire("source", Kind.TEXT, "the topic or feed it came from")
    partition: int | None = wire("partition", Kind.COUNT, "partition of that topic", nullable=True)
    offset: int | None = wire("offset", Kind.COUNT, "offset in that partition", nullable=True)
    found_ms: int = wire("found", Kind.TIME_MS, "when it was found")
    raw: bytes = wire("raw", Kind.BASE64, "its bytes as they came; of very long ones the first 512 KiB, then the reason says so")

    @classmethod
    def of(
        cls, reason: str, source: str, raw: bytes, found_ms: int, *, partition: int | None = None, offset: int | None = None
    ) -> "DeadLetter":
        """A letter that a topic takes, however long the raw bytes are."""
        if len(raw) > RAW_BYTES_MOST:
            reason = f"{reason} (the first {RAW_BYTES_MOST} of {len(raw)} bytes)"
        return cls(reason, source, partition, offset, found_ms, raw[:RAW_BYTES_MOST])


class LateReason(enum.StrEnum):
    """Why a kline could not join the series."""

    CONFLICT = "conflict"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class LateKline:
    """A kline for a second that the job already holds: with other content, or too old to compare."""

    reason: LateReason = wire("reason", Kind.TEXT, "conflict: differs from the one held; stale: too old to compare")
    partition: int = wire("partition", Kind.COUNT, "partition of crypto_kline_data")
    offset: int = wire("offset", Kind.COUNT, "offset in that partition")
    kline: Kline = wire("kline", Kind.TEXT, "the kline, as in crypto_kline_data")


@dataclass(frozen=True, slots=True)
class PipelineEvent:
    """Something that happened to a part of the pipeline, for people and for the status page."""

    component: str = wire("component", Kind.TEXT, "which part")
    event: str = wire(
        "event",
        Kind.TEXT,
        "started, stopped, lagging, recovered, offsets_skipped, repaired, alerted, kline_differs; of workflows: see below",
    )
    time_ms: int = wire("time", Kind.TIME_MS, "when")
    detail: str = wire("detail", Kind.TEXT, "for a person to read")


@dataclass(frozen=True, slots=True)
class SymbolChoice:
    """What somebody said at run time: that a symbol, or all that match a pattern, are wanted or not."""

    name: str = wire("name", Kind.TEXT, "a symbol, or a pattern with * and ? such as `*USDT`, upper case; the record's key")
    wanted: bool = wire("wanted", Kind.FLAG, "true to follow it, false not to")
    time_ms: int = wire("time", Kind.TIME_MS, "when it was said; the record's timestamp")
    by: str = wire("by", Kind.TEXT, "who said it")


WORKFLOW = "workflow:"
"""What keys and components that belong to a workflow begin with; no symbol does, since those are in upper case."""


class Order(enum.StrEnum):
    """What a workflow's runner can be told."""

    START = "start"
    STOP = "stop"
    STATUS = "status"
    PING = "ping"


@dataclass(frozen=True, slots=True)
class WorkflowCommand:
    """What somebody told a workflow's runner. It answers in `crypto_pipeline_events`."""

    workflow: str = wire("workflow", Kind.TEXT, "workflow:NAME; the record's key")
    command: Order = wire("command", Kind.TEXT, "start, stop, status or ping")
    parameters: tuple[str, ...] = wire("parameters", Kind.NAMES, "of start: each as name=value")
    id: str = wire("id", Kind.TEXT, "of this command; the answer tells it again")
    time_ms: int = wire("time", Kind.TIME_MS, "when it was said; the record's timestamp")
    by: str = wire("by", Kind.TEXT, "who said it")


@dataclass(frozen=True, slots=True)
class SymbolsWatched:
    """What a server's clients look at. Whoever works through symbols takes these first."""

    server: str = wire("server", Kind.TEXT, "which server; the record's key")
    symbols: tuple[str, ...] = wire("symbols", Kind.NAMES, "symbols, upper case, sorted")
    time_ms: int = wire("time", Kind.TIME_MS, "when it was so; said again at least every minute, older than three it counts no more")


class GapState(enum.StrEnum):
    """How far the story of a gap has come, in this order; whoever filled a gap, it is filled."""

    DETECTED = "detected"
    DEFERRED = "deferred"
    """The feed went on without it; fetching goes on."""
    UNFILLABLE = "unfillable"
    REFILLED = "refilled"
    """All its seconds are in the feed, in order."""
    REPAIRED = "repaired"
    """Its klines came too late for the feed and are in crypto_kline_repairs."""


class GapSource(enum.StrEnum):
    """Where the seconds of a gap were found."""

    DERIVED = "derived"
    LIVE = "live"
    """Frames that came late, or over another connection."""
    REST = "rest"
    TOPIC = "topic"
    """Another producer had published them."""


NO_SOURCE = "none"


def gap_id(symbol: str, from_ms: int, to_ms: int) -> str:
    """The id of a gap: the same for all who miss the same seconds.

    >>> gap_id("BTCUSDT", 1_700_000_000_000, 1_700_000_003_000)
    'BTCUSDT:1700000000000-1700000003000'
    """
    return f"{symbol}:{from_ms}-{to_ms}"


@dataclass(frozen=True, slots=True)
class FeedGap:
    """A state that a gap of the feed has reached, as one producer saw it. Identity: gap, state and producer."""

    gap: str = wire("gap", Kind.TEXT, "id of the gap: symbol:from-to, the same for all who miss the same seconds")
    symbol: str = wire("s", Kind.TEXT, "symbol, upper case")
    state: GapState = wire("state", Kind.TEXT, "detected, deferred, unfillable, refilled or repaired")
    producer: str = wire("producer", Kind.TEXT, "which producer says so")
    from_ms: int = wire("from", Kind.TIME_MS, "open time of the first missing second")
    to_ms: int = wire("to", Kind.TIME_MS, "open time of the first second there again, exclusive")
    klines: int = wire("klines", Kind.COUNT, "how many of its seconds were obtained so far")
    source: str = wire("source", Kind.TEXT, "where from: derived, live, rest, topic, several joined by +, or none")
    proved: bool = wire("proved", Kind.FLAG, "true where trade ids proved the number of trades")
    trades: int | None = wire("trades", Kind.COUNT, "how many trades are missing, as trade ids tell", nullable=True)
    reason: str = wire("reason", Kind.NOTE, "why, for a person to read")
    time_ms: int = wire("time", Kind.TIME_MS, "when the state was reached; the record's timestamp")

    @property
    def seconds(self) -> int:
        """How many seconds are missing, found again or not."""
        return (self.to_ms - self.from_ms) // SECOND_MS


class CandleOrigin(enum.StrEnum):
    """Who made a candle."""

    BUILT = "built"
    """From 1 s klines, here."""
    HISTORY = "history"
    """The exchange's own, from REST."""


@dataclass(frozen=True, slots=True)
class Candle:
    """One closed candle of one symbol and interval. Identity: symbol, interval and open time."""

    symbol: str = wire("s", Kind.TEXT, "symbol, upper case")
    interval: str = wire("i", Kind.TEXT, "1m, 5m, 15m, 30m, 1h, 4h or 1d")
    open_time_ms: int = wire("t", Kind.TIME_MS, "open time, aligned to UTC")
    close_time_ms: int = wire("T", Kind.TIME_MS, "close time: the interval's last millisecond; the record's timestamp")
    open: int = wire("o", Kind.PRICE, "first price")
    high: int = wire("h", Kind.PRICE, "greatest price")
    low: int = wire("l", Kind.PRICE, "least price")
    close: int = wire("c", Kind.PRICE, "last price")
    base_volume: int = wire("v", Kind.VOLUME, "volume in base units")
    quote_volume: int = wire("q", Kind.VOLUME, "volume in quote units")
    taker_base_volume: int = wire("V", Kind.VOLUME, "base volume where the buyer was the taker")
    taker_quote_volume: int = wire("Q", Kind.VOLUME, "quote volume where the buyer was the taker")
    trades: int = wire("n", Kind.COUNT, "number of trades")
    first_trade_id: int | None = wire("f", Kind.TRADE_ID, "id of its first trade", nullable=True)
    last_trade_id: int | None = wire("L", Kind.TRADE_ID, "id of its last trade", nullable=True)
    klines: int = wire("klines", Kind.COUNT, "how many 1 s klines it was built from; 0 for the exchange's own")
    complete: bool = wire("complete", Kind.FLAG, "false where klines were missing; then the exchange's own follows, with a higher revision")
    origin: CandleOrigin = wire("origin", Kind.TEXT, "built (from 1 s klines) or history (the exchange's own)")
    revision: int = wire(
        "revision", Kind.COUNT, "0 for a built one; else the offset of its record in crypto_candle_history, plus 1", default=0
    )


class HistoryReason(enum.StrEnum):
    """Why candles were fetched from the exchange."""

    START = "start"
    """A symbol was followed for the first time, or what was stored had grown old."""
    GAP = "gap"
    """Klines within them were lost, or came too late for the feed."""
    CORRECTION = "correction"
    """A kline within them was corrected."""


@dataclass(frozen=True, slots=True)
class CandleHistory:
    """Closed candles of one symbol and interval, one after the other, as the exchange's REST interface gave them."""

    symbol: str = wire("s", Kind.TEXT, "symbol, upper case")
    interval: str = wire("i", Kind.TEXT, "1m, 5m, 15m, 30m, 1h, 4h or 1d")
    reason: HistoryReason = wire("reason", Kind.TEXT, "start, gap or correction")
    rows: tuple[tuple[Any, ...], ...] = wire(
        "rows",
        Kind.ROWS,
        "the exchange's rows in order of time, each t, o, h, l, c, v, T, q, n, V, Q; the record's timestamp is the last T",
    )


@dataclass(frozen=True, slots=True)
class ProvisionalCandles:
    """The candles in progress of one symbol after one kline, all intervals in one record."""

    symbol: str = wire("s", Kind.TEXT, "symbol, upper case")
    close_time_ms: int = wire("T", Kind.TIME_MS, "close time of the kline; the record's timestamp")
    candles: dict[str, tuple[float, ...]] = wire(
        "candles",
        Kind.ROWS_BY_NAME,
        "by interval: open, high, low, close, base volume, quote volume, those of takers who bought, trades, klines so far; "
        "closed with the kline where T ends it",
    )


@dataclass(frozen=True, slots=True)
class Indicators:
    """The indicators of one closed candle. Identity: symbol, interval, open time and since."""

    symbol: str = wire("s", Kind.TEXT, "symbol, upper case")
    interval: str = wire("i", Kind.TEXT, "interval of the candle")
    open_time_ms: int = wire("t", Kind.TIME_MS, "open time of the candle")
    close_time_ms: int = wire("T", Kind.TIME_MS, "close time of the candle; the record's timestamp")
    close: float = wire("c", Kind.NUMBER, "close of the candle")
    values: dict[str, float | None] = wire("values", Kind.NUMBERS, "every indicator's value by its name; null where there is none yet")
    unready: tuple[str, ...] = wire("unready", Kind.NAMES, "names of the values that have not converged")
    since_ms: int = wire("since", Kind.TIME_MS, "open time of the first candle of the contiguous run they were computed from")
    revision: int = wire("revision", Kind.COUNT, "0, or higher where a repair replaced the values", default=0)


class Side(enum.StrEnum):
    """What a signal says."""

    BUY = "buy"
    SELL = "sell"


class SignalState(enum.StrEnum):
    """Whether a signal stands."""

    FIRED = "fired"
    WITHDRAWN = "withdrawn"
    """A repair removed its ground."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A rule's word on one closed candle. Identity: id, since and revision."""

    id: str = wire("id", Kind.TEXT, "symbol:interval:rule:side:open time, the same whoever computes it and whenever")
    symbol: str = wire("s", Kind.TEXT, "symbol, upper case")
    interval: str = wire("i", Kind.TEXT, "interval of the candle")
    open_time_ms: int = wire("t", Kind.TIME_MS, "open time of the candle")
    close_time_ms: int = wire("T", Kind.TIME_MS, "close time of the candle; the record's timestamp")
    side: Side = wire("side", Kind.TEXT, "buy or sell")
    rule: str = wire("rule", Kind.TEXT, "rsi, macd_cross or ema_cross")
    state: SignalState = wire("state", Kind.TEXT, "fired or withdrawn")
    price: float = wire("price", Kind.NUMBER, "close of the candle")
    value: float = wire("value", Kind.NUMBER, "what the rule looked at: the RSI; MACD less its signal line; fast less slow EMA")
    limit: float = wire("limit", Kind.NUMBER, "what the value passed")
    reason: str = wire("reason", Kind.TEXT, "for a person to read")
    since_ms: int = wire("since", Kind.TIME_MS, "open time of the first candle of the run it was computed from")
    revision: int = wire("revision", Kind.COUNT, "0, or higher where a repair replaced it", default=0)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What one symbol did over the last 1,440 closed 1m candles, and since its run began. Identity: symbol, time and since."""

    symbol: str = wire("s", Kind.TEXT, "symbol, upper case")
    open_time_ms: int = wire("t", Kind.TIME_MS, "open time of the newest 1m candle")
    close_time_ms: int = wire("T", Kind.TIME_MS, "its close time; the record's timestamp")
    day_candles: int = wire("day_candles", Kind.COUNT, "how many candles the day has so far, up to 1440")
    day_volume: float = wire("day_volume", Kind.NUMBER, "sum of base volume over the day")
    day_average_volume: float = wire("day_average_volume", Kind.NUMBER, "mean base volume of a candle of the day")
    day_average_open: float = wire("day_average_open", Kind.NUMBER, "mean open over the day")
    day_average_close: float = wire("day_average_close", Kind.NUMBER, "mean close over the day")
    day_low: float = wire("day_low", Kind.NUMBER, "least low of the day")
    day_high: float = wire("day_high", Kind.NUMBER, "greatest high of the day")
    candles: int = wire("candles", Kind.COUNT, "how many candles since the run began")
    volume: float = wire("volume", Kind.NUMBER, "sum of base volume since then")
    average_volume: float = wire("average_volume", Kind.NUMBER, "mean base volume of a candle since then")
    average_open: float = wire("average_open", Kind.NUMBER, "mean open since then")
    average_close: float = wire("average_close", Kind.NUMBER, "mean close since then")
    low: float = wire("low", Kind.NUMBER, "least low since then")
    high: float = wire("high", Kind.NUMBER, "greatest high since then")
    since_ms: int = wire("since", Kind.TIME_MS, "open time of the first candle of the contiguous run")
    revision: int = wire("revision", Kind.COUNT, "0, or higher where a repair replaced the values", default=0)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says after one closed candle. Identity: symbol, interval, open time, model, inputs, since and revision."""

    symbol: str = wire("s", Kind.TEXT, "symbol, upper case")
    interval: str = wire("i", Kind.TEXT, "interval of the candle")
    open_time_ms: int = wire("t", Kind.TIME_MS, "open time of the candle")
    close_time_ms: int = wire("T", Kind.TIME_MS, "close time of the candle, from which it looks ahead; the record's timestamp")
    model: str = wire("model", Kind.TEXT, "id of the model: a digest of its weights and of what it was trained on")
    horizon: str = wire("horizon", Kind.TEXT, "how far it looks ahead, such as 10m")
    prediction: float = wire("prediction", Kind.NUMBER, "log return of the close up to the horizon that it expects")
    probability: float = wire("probability", Kind.NUMBER, "probability that the return is above zero, if it isn't zero")
    inputs: str = wire("inputs", Kind.TEXT, "digest of whose indicators it was made from, and of their since and revision")
    since_ms: int = wire("since", Kind.TIME_MS, "since of those indicators, the latest of them")
    revision: int = wire("revision", Kind.COUNT, "revision of those indicators, their sum", default=0)


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade of one symbol, or consecutive ones that the source gives as one. Identity: symbol and first id."""

    symbol: str = wire("s", Kind.TEXT, "symbol, upper case; of another venue than Binance with the venue before it, as in FINNHUB:AAPL")
    aggregate_id: int | None = wire("a", Kind.COUNT, "id of the aggregate, null for a single trade", nullable=True)
    first_id: int = wire("f", Kind.COUNT, "id of its first trade; where the source gives none, a number that its feed counts (proof none)")
    last_id: int = wire("l", Kind.COUNT, "id of its last trade")
    price: int = wire("p", Kind.PRICE, "price")
    quantity: int = wire("q", Kind.VOLUME, "quantity in base units; 0 where a source only says that the price has changed")
    time_ms: int = wire("T", Kind.TIME_MS, "when it was made; the record's timestamp and event time")
    buyer_is_maker: bool | None = wire("m", Kind.FLAG, "whether the seller was the taker; null where unknown", nullable=True)
    conditions: tuple[str, ...] | None = wire("c", Kind.NAMES, "the source's own codes of its conditions; null without", nullable=True)
    origin: Origin = wire("origin", Kind.TEXT, "live, rest, posted (over HTTP) or file")
    source: str = wire("source", Kind.TEXT, "where it came from: binance, finnhub, or who posted it")
    proof: Proof = wire("proof", Kind.TEXT, "ids, count or none: what proves that no trade is missing before it")


@dataclass(frozen=True, slots=True)
class TradeWindow:
    """One complete sliding window of one symbol over its trades: those made in [start, end). Identity: symbol, end, since."""

    symbol: str = wire("symbol", Kind.TEXT, "symbol, upper case")
    start_ms: int = wire("window_start", Kind.TIME_MS, "start, inclusive")
    end_ms: int = wire("window_end", Kind.TIME_MS, "end, exclusive; the record's timestamp is one less")
    close: float = wire("close", Kind.NUMBER, "price of the newest trade before its end, within the window or before it")
    average_price: float | None = wire("average_price", Kind.NUMBER, "mean price by trade; null without trades", nullable=True)
    average_by_volume: float | None = wire(
        "average_by_volume", Kind.NUMBER, "mean price by volume (VWAP); null without volume", nullable=True
    )
    low: float | None = wire("low", Kind.NUMBER, "least price; null without trades", nullable=True)
    high: float | None = wire("high", Kind.NUMBER, "greatest price; null without trades", nullable=True)
    volume: float = wire("volume", Kind.NUMBER, "sum of base volume")
    buy_volume: float | None = wire(
        "buy_volume", Kind.NUMBER, "base volume where the buyer was the taker; null if any is unknown", nullable=True
    )
    sell_volume: float | None = wire(
        "sell_volume", Kind.NUMBER, "base volume where the seller was the taker; null if any is unknown", nullable=True
    )
    points: int = wire("points", Kind.COUNT, "how many trades it holds")
    whole: bool = wire("whole", Kind.FLAG, "false where its start lies before the contiguous run, so that earlier trades may be missing")
    rsi: float | None = wire("rsi", Kind.NUMBER, "Wilder's RSI of the averages by trade; null before its seed", nullable=True)
    rsi_ready: bool = wire("rsi_ready", Kind.FLAG, "true once the RSI has converged (150 steps for period 14)")
    since_ms: int = wire("since", Kind.TIME_MS, "time of the first trade of the contiguous run it was computed from")
    since_id: int = wire("since_id", Kind.COUNT, "id of that trade")
    source: str = wire("source", Kind.TEXT, "where its trades came from")
    proof: Proof = wire("proof", Kind.TEXT, "ids, count or none: the weakest proof of its trades")
    revision: int = wire("revision", Kind.COUNT, "0, or higher where a repair replaced the value", default=0)


@dataclass(frozen=True, slots=True)
class OrderBook:
    """The best levels of one symbol's book after an update, and what follows from them. Identity: symbol, update id and since."""

    symbol: str = wire("s", Kind.TEXT, "symbol, upper case")
    time_ms: int = wire("E", Kind.TIME_MS, "event time of the newest update it holds; the record's timestamp")
    last_update_id: int = wire("u", Kind.COUNT, "id of that update")
    bids: tuple[tuple[str, str], ...] = wire("bids", Kind.ROWS, "the best 20 bids, best first: price and quantity, decimal strings")
    asks: tuple[tuple[str, str], ...] = wire("asks", Kind.ROWS, "the best 20 asks, best first: price and quantity, decimal strings")
    spread: float | None = wire("spread", Kind.NUMBER, "best ask less best bid; null while a side is empty", nullable=True)
    mid: float | None = wire("mid", Kind.NUMBER, "mean of best bid and ask; null while a side is empty", nullable=True)
    microprice: float | None = wire(
        "microprice", Kind.NUMBER, "best bid and ask, each weighted by the other's quantity; null while a side is empty", nullable=True
    )
    imbalance: float | None = wire(
        "imbalance",
        Kind.NUMBER,
        "(bid - ask) / (bid + ask) of the best levels' quantities, -1 to 1; null while a side is empty",
        nullable=True,
    )
    imbalance_20: float | None = wire(
        "imbalance_20", Kind.NUMBER, "the same of the best 20 levels' quantities; null while a side is empty", nullable=True
    )
    depth: dict[str, tuple[float | None, float | None]] = wire(
        "depth",
        Kind.ROWS_BY_NAME,
        "by distance from the mid in basis points: base quantity of bids and of asks within it; null where the book isn't known so far",
    )
    since_id: int = wire("since", Kind.COUNT, "update id of the snapshot that its contiguous run began with")
    source: str = wire("source", Kind.TEXT, "where it came from: binance")
    proof: Proof = wire("proof", Kind.TEXT, "ids: its updates continue each other")


class IdGapState(enum.StrEnum):
    """How far the story of missing ids has come, in this order."""

    DETECTED = "detected"
    DEFERRED = "deferred"
    """The feed went on without them; fetching goes on."""
    UNFILLABLE = "unfillable"
    RESYNCHRONISED = "resynchronised"
    """A book began anew with a snapshot: what was between is not needed."""
    REFILLED = "refilled"
    """All are in the feed, in order."""
    REPAIRED = "repaired"
    """They came too late for the feed and are in crypto_trade_repairs."""


def id_gap_id(feed: str, symbol: str, from_id: int, to_id: int) -> str:
    """The id of a gap in ids: the same for all who miss the same ones.

    >>> id_gap_id("trades", "BTCUSDT", 43, 47)
    'trades:BTCUSDT:43-47'
    """
    return f"{feed}:{symbol}:{from_id}-{to_id}"


@dataclass(frozen=True, slots=True)
class IdGap:
    """A state that missing ids of a feed have reached, as one producer saw it. Identity: gap, state and producer."""

    gap: str = wire("gap", Kind.TEXT, "id of the gap: feed:symbol:from-to, the same for all who miss the same ids")
    feed: str = wire("feed", Kind.TEXT, "which feed: trades or books")
    symbol: str = wire("s", Kind.TEXT, "symbol, upper case")
    state: IdGapState = wire("state", Kind.TEXT, "detected, deferred, unfillable, resynchronised, refilled or repaired")
    producer: str = wire("producer", Kind.TEXT, "which producer says so")
    from_id: int = wire("from", Kind.COUNT, "the first missing id")
    to_id: int = wire("to", Kind.COUNT, "the first id there again, exclusive")
    after_ms: int | None = wire("after", Kind.TIME_MS, "time of the record before them, null where none is known", nullable=True)
    before_ms: int = wire("before", Kind.TIME_MS, "time of the record after them")
    obtained: int = wire("obtained", Kind.COUNT, "how many of them were obtained so far")
    reason: str = wire("reason", Kind.NOTE, "why, for a person to read")
    time_ms: int = wire("time", Kind.TIME_MS, "when the state was reached; the record's timestamp")


class KeyState(enum.StrEnum):
    """How far a request under an idempotency key has come."""

    CLAIMED = "claimed"
    """A replica is about to publish its records."""
    DONE = "done"
    """All of them are in their topic."""


@dataclass(frozen=True, slots=True)
class IngestKey:
    """What became of a posted request under its idempotency key, as one replica saw it."""

    key: str = wire("key", Kind.TEXT, "source:idempotency key; the record's key")
    state: KeyState = wire("state", Kind.TEXT, "claimed or done")
    digest: str = wire("digest", Kind.TEXT, "of route, parameters and body")
    claim: str = wire("claim", Kind.TEXT, "which replica's which attempt")
    answer: str = wire("answer", Kind.NOTE, "what was answered, as JSON; empty while claimed")
    time_ms: int = wire("time", Kind.TIME_MS, "when it was so; the record's timestamp")


def wire_fields(event: type[Any]) -> dict[str, Field[Any]]:
    """Wire name → dataclass field, in wire order.

    >>> list(wire_fields(Kline))[:3]
    ['s', 't', 'T']
    """
    return {f.metadata["wire"]: f for f in fields(event)}
