"""Trades for tests, klines that follow from them, and windows over them in a few lines that share nothing with the engine."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Any, NamedTuple

from hypothesis import strategies as st

from klinestream.market.codec import TRADE_ORIGINS
from klinestream.market.events import SECOND_MS, Kline, Origin, Proof, Trade
from tests.klines import START_MS

UNIT = 10**8
PROOFS = list(Proof)


def trade(symbol: str = "BTCUSDT", first_id: int = 0, time_ms: int = START_MS, **fields: object) -> Trade:
    """One trade at 100, of one unit."""
    values: dict[str, object] = {
        "symbol": symbol,
        "aggregate_id": first_id,
        "first_id": first_id,
        "last_id": first_id,
        "price": 100 * UNIT,
        "quantity": UNIT,
        "time_ms": time_ms,
        "buyer_is_maker": False,
        "conditions": None,
        "origin": Origin.LIVE,
        "source": "binance",
        "proof": Proof.IDS,
    }
    return Trade(**(values | fields))  # type: ignore[arg-type]  # the caller names fields


@st.composite
def trades(draw: st.DrawFn) -> Trade:
    """Any valid trade."""
    first = draw(st.integers(0, 2**62))
    aggregate = draw(st.none() | st.integers(0, 2**62))
    return trade(
        draw(st.sampled_from(["BTCUSDT", "FINNHUB:AAPL", "币安人生USDT"])),
        first,
        draw(st.integers(0, 4_102_444_799_999)),
        aggregate_id=aggregate,
        last_id=first if aggregate is None else first + draw(st.integers(0, 999_999)),
        price=draw(st.integers(1, 9 * 10**18)),
        quantity=draw(st.integers(0, 10**22)),
        buyer_is_maker=draw(st.none() | st.booleans()),
        conditions=draw(st.none() | st.lists(st.text(max_size=3), max_size=2).map(tuple)),
        origin=draw(st.sampled_from(TRADE_ORIGINS)),
        source=draw(st.sampled_from(["binance", "finnhub"])),
        proof=draw(st.sampled_from(Proof)),
    )


class Market(NamedTuple):
    """What two topics hold: trades as they may come, and the klines of their seconds."""

    trades: list[Trade]
    klines: list[Kline]


@st.composite
def markets(draw: st.DrawFn, symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT"), most: int = 25) -> Market:
    """Symbols whose trades come with holes, repeats and steps back in time, and the klines of all their trades, lost ones too."""
    told: dict[str, list[Trade]] = {}
    klines: list[Kline] = []
    for symbol in symbols:
        whole = _series(draw, symbol, most)
        klines += klines_of(whole, draw(st.integers(0, 4)))
        told[symbol] = _as_told(draw, whole)
    order = draw(st.permutations([t.symbol for series in told.values() for t in series]))
    queues = {symbol: iter(series) for symbol, series in told.items()}
    # The decoder sets those aside that it can't hold.
    klines = sorted((k for k in klines if k.quote_volume < 10**15 * UNIT), key=lambda kline: kline.open_time_ms)
    return Market([next(queues[symbol]) for symbol in order], klines)


def _series(draw: st.DrawFn, symbol: str, most: int) -> list[Trade]:
    """Ids that continue, times that may step back within a second."""
    found: list[Trade] = []
    first_id, time_ms = draw(st.integers(0, 3)), START_MS + draw(st.integers(0, 3000))
    wild = draw(st.booleans())
    for _ in range(draw(st.integers(0, most))):
        time_ms += draw(st.sampled_from([0, 0, 1, 40, 499, 500, 501, 1000, 2700, 9001, 40_000]))
        back = draw(st.sampled_from([0, 0, 0, 30, 600]))
        count = draw(st.sampled_from([1, 1, 1, 2, 5]))
        made = max(time_ms - back, time_ms // SECOND_MS * SECOND_MS)
        values: dict[str, Any] = {
            "price": draw(st.integers(1, 9 * 10**18)) if wild else draw(st.integers(1, 50)) * 10**6,
            "quantity": draw(st.integers(0, 10**22)) if wild else draw(st.integers(0, 10**12)),
            "buyer_is_maker": draw(st.sampled_from([True, True, False, False, False, None] if wild else [True, False])),
            "source": draw(st.sampled_from(["binance", "other"])) if wild else "binance",
            "proof": draw(st.sampled_from(PROOFS)),
        }
        found.append(trade(symbol, first_id, made, last_id=first_id + count - 1, **values))
        first_id += count
    return found


def _as_told(draw: st.DrawFn, whole: list[Trade]) -> list[Trade]:
    """With some lost, some again, some too late."""
    told: list[Trade] = []
    lost: list[Trade] = []
    for each in whole:
        chance = draw(st.integers(0, 19))
        (lost if chance == 0 else told).append(each)
        if chance == 1:
            told.append(draw(st.sampled_from(told)))
        if chance == 2 and lost and told:
            told.append(draw(st.sampled_from(lost)))
    return told


def klines_of(series: Sequence[Trade], more: int = 2) -> list[Kline]:
    """The klines of one symbol's trades, from the second of its first one to some past the last, each trade by trade."""
    if not series:
        return []
    counted = effective(series)
    by_second: dict[int, list[Trade]] = defaultdict(list)
    for at, each in zip(counted, series, strict=True):
        by_second[at // SECOND_MS * SECOND_MS].append(each)
    klines: list[Kline] = []
    close, last = 0, -1
    for opened in range(min(by_second), max(by_second) + (1 + more) * SECOND_MS, SECOND_MS):
        mine = by_second.get(opened, [])
        close, last = (mine[-1].price, mine[-1].last_id) if mine else (close, last)
        prices = [each.price for each in mine] or [close]
        taken = [each for each in mine if each.buyer_is_maker is False]
        klines.append(
            Kline(
                symbol=series[0].symbol,
                open_time_ms=opened,
                close_time_ms=opened + 999,
                open=prices[0],
                high=max(prices),
                low=min(prices),
                close=close,
                base_volume=sum(each.quantity for each in mine),
                quote_volume=sum(each.quantity * each.price for each in mine) // UNIT,
                taker_base_volume=sum(each.quantity for each in taken),
                taker_quote_volume=sum(each.quantity * each.price for each in taken) // UNIT,
                trades=sum(each.last_id - each.first_id + 1 for each in mine),
                first_trade_id=mine[0].first_id if mine else -1,
                last_trade_id_within=last if mine else -1,
                last_trade_id=last,
                origin=Origin.LIVE,
            )
        )
    return klines


def effective(series: Iterable[Trade]) -> list[int]:
    """When each counts: not before the one before it."""
    return list(accumulate((each.time_ms for each in series), max))


def runs_of(told: Sequence[Trade]) -> list[list[Trade]]:
    """One symbol's trades, as they came, in rows whose ids continue; what comes again, or too late, is left out."""
    runs: list[list[Trade]] = []
    for each in told:
        newest = runs[-1][-1].last_id if runs else -2
        if each.first_id == newest + 1:
            runs[-1].append(each)
        elif each.first_id > newest:
            runs.append([each])
    return runs


def windows_of(told: Sequence[Trade], klines: Sequence[Kline], size_ms: int, slide_ms: int, silence_ms: int) -> list[dict[str, Any]]:
    """Every window that one symbol's trades, and klines that prove them, complete; all fields but the RSI."""
    found = []
    for run in runs_of(told):
        times = effective(run)
        proved = [
            k.close_time_ms + 1 for k in klines if k.last_trade_id is not None and run[0].first_id <= k.last_trade_id <= run[-1].last_id
        ]
        complete = max([times[-1], *proved])
        for end in range(times[0] // slide_ms * slide_ms + slide_ms, complete + 1, slide_ms):
            first, after = bisect_left(times, end - size_ms), bisect_left(times, end)
            if end - size_ms <= times[after - 1] + silence_ms:
                found.append(_window(run, run[first:after], run[after - 1], end=end, size_ms=size_ms, since=times[0]))
    return found


def _window(run: Sequence[Trade], held: Sequence[Trade], newest: Trade, *, end: int, size_ms: int, since: int) -> dict[str, Any]:
    points = sum(each.last_id - each.first_id + 1 for each in held)
    base = Fraction(sum(each.quantity for each in held), UNIT)
    quote = Fraction(sum(each.quantity * each.price for each in held), UNIT**2)
    prices = [each.price for each in held]
    mean = Fraction(sum(each.price * (each.last_id - each.first_id + 1) for each in held), UNIT)
    buys = Fraction(sum(each.quantity for each in held if each.buyer_is_maker is False), UNIT)
    known = all(each.buyer_is_maker is not None for each in held)
    return {
        "symbol": run[0].symbol,
        "window_start": end - size_ms,
        "window_end": end,
        "close": float(Fraction(newest.price, UNIT)),
        "average_price": float(mean / points) if points else None,
        "average_by_volume": float(quote / base) if base else None,
        "low": float(Fraction(min(prices), UNIT)) if prices else None,
        "high": float(Fraction(max(prices), UNIT)) if prices else None,
        "volume": float(base),
        "buy_volume": float(buys) if known else None,
        "sell_volume": float(base - buys) if known else None,
        "points": points,
        "whole": end - size_ms > since,
        "since": since,
        "since_id": run[0].first_id,
        "source": newest.source,
        "proof": max((each.proof for each in held or [newest]), key=PROOFS.index),
    }
