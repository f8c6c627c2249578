"""Klines for tests: hand-made ones, and hypothesis strategies for series of them."""

from collections.abc import Sequence

from hypothesis import strategies as st

from klinestream.market.events import SECOND_MS, Kline, Origin, Proof

START_MS = 1_700_000_000_000


def kline(symbol: str = "BTCUSDT", second: int = 0, price: int = 100 * 10**8, **fields: object) -> Kline:
    """A kline `second` seconds after START_MS, flat at a price, one trade a second."""
    opened = START_MS + second * SECOND_MS
    values: dict[str, object] = {
        "symbol": symbol,
        "open_time_ms": opened,
        "close_time_ms": opened + SECOND_MS - 1,
        "open": price,
        "high": price,
        "low": price,
        "close": price,
        "base_volume": 10**8,
        "quote_volume": price,
        "taker_base_volume": 0,
        "taker_quote_volume": 0,
        "trades": 1,
        "first_trade_id": second,
        "last_trade_id_within": second,
        "last_trade_id": second,
        "origin": Origin.LIVE,
    }
    return Kline(**(values | fields))  # type: ignore[arg-type]  # the caller names fields


PRICES = st.integers(1, 9 * 10**18)
VOLUMES = st.integers(0, 10**22)
COUNTS = st.integers(0, 2**62)
IDS = st.one_of(st.none(), st.integers(-1, 2**62))
SYMBOLS = ("BTCUSDT", "ETHUSDT", "1000SATSUSDT", "币安人生USDT")


@st.composite
def klines(draw: st.DrawFn, symbols: Sequence[str] = SYMBOLS, seconds: int = 40) -> Kline:
    """Any valid kline within some seconds of START_MS."""
    low, middle, other, high = sorted(draw(st.lists(PRICES, min_size=4, max_size=4)))
    opened, closed = draw(st.permutations([middle, other]))
    return kline(
        draw(st.sampled_from(symbols)),
        draw(st.integers(0, seconds)),
        open=opened,
        close=closed,
        low=low,
        high=high,
        base_volume=draw(VOLUMES),
        quote_volume=draw(VOLUMES),
        taker_base_volume=draw(VOLUMES),
        taker_quote_volume=draw(VOLUMES),
        trades=draw(COUNTS),
        first_trade_id=draw(IDS),
        last_trade_id_within=draw(IDS),
        last_trade_id=draw(IDS),
        origin=draw(st.sampled_from(Origin)),
        source=draw(st.sampled_from(["binance", "finnhub", "my.feed_2-a"])),
        proof=draw(st.sampled_from(Proof)),
    )


@st.composite
def feeds(draw: st.DrawFn, symbols: Sequence[str] = SYMBOLS[:3], seconds: int = 30) -> list[Kline]:
    """A feed as it may come: each symbol mostly in order, with holes, repeats, conflicting and stale klines, mixed among symbols."""
    series = {symbol: draw(st.lists(st.integers(0, seconds), max_size=seconds)) for symbol in symbols}
    steps: list[Kline] = []
    for symbol, jumps in series.items():
        second = draw(st.integers(0, 5))
        for jump in jumps:
            # Mostly the next second; now and then a hole, a repeat or an old one.
            second += 1 if jump > 5 else (0, -1, -3, 2, 3, 5)[jump]
            price = draw(st.integers(1, 50)) * 10**6
            steps.append(kline(symbol, second, price, base_volume=draw(st.integers(0, 10**12))))
    order = draw(st.permutations([k.symbol for k in steps]))
    queues = {symbol: iter([k for k in steps if k.symbol == symbol]) for symbol in symbols}
    return [next(queues[symbol]) for symbol in order]
