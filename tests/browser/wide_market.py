"""A market of any number of symbols, cheaply made: a walk of prices by minutes, and of it what a table of the market needs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson

from klinestream.market.codec import encode_event
from klinestream.market.events import Window
from klinestream.market.intervals import DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS
from klinestream.market.topics import CANDLES, INDICATORS, WINDOWS
from klinestream.runtime.kafka import Record

_NAMES = "BTC ETH SOL XRP BNB DOGE ADA TRX LINK AVAX SUI TON SHIB DOT LTC BCH UNI NEAR APT ICP PEPE ETC ATOM FIL ARB OP INJ AAVE STX GRT"
KNOWN = _NAMES.split()
QUOTES = {"USDT": 0.36, "USDC": 0.18, "FDUSD": 0.1, "BTC": 0.13, "TRY": 0.12, "ETH": 0.05, "BNB": 0.03, "EUR": 0.02, "BRL": 0.01}
WORTH = {
    **{"BTC": 61_250.0, "ETH": 2612.4, "BNB": 571.2, "SOL": 146.3, "XRP": 0.524, "DOGE": 0.1412, "ADA": 0.361, "TRX": 0.158, "AVAX": 27.4},
    **{"USDT": 1.0, "USDC": 1.0002, "FDUSD": 0.9991, "TRY": 0.0294, "EUR": 1.06, "BRL": 0.176},
}
"""In dollars, now; others are drawn."""
FLAT = ("USDT", "USDC", "FDUSD", "TRY", "EUR", "BRL")
CROSSES = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "EURUSDT", "USDTTRY", "USDTBRL", "FDUSDUSDT", "USDCUSDT")
"""They tell what a quote asset is worth."""
LINES = "30m"
_SPAN_MS = DAY_MS + 4 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Coin:
    """One symbol, and its prices by minutes, the last one now."""

    symbol: str
    prices: npt.NDArray[np.float64]
    turnover: float
    """Quote volume a minute."""
    rsi: float | None
    ready: bool


class WideMarket:
    """Symbols and their day up to `now_ms`; the same for the same arguments."""

    def __init__(self, count: int, now_ms: int) -> None:
        self.now_ms = now_ms
        self.start_ms = (now_ms - _SPAN_MS) // MINUTE_MS * MINUTE_MS
        self._rng = np.random.default_rng(4)
        self._minutes = (now_ms - self.start_ms) // MINUTE_MS + 1
        self._paths: dict[str, npt.NDArray[np.float64]] = {}
        self.coins = [self._coin(symbol, base, quote) for symbol, base, quote in _markets(count)]

    def windows(self, end_ms: int, coins: Sequence[Coin], prices: Mapping[str, float]) -> Iterator[Record]:
        """The window of each symbol that ends then: each price trembles around its last one, but those of `prices`."""
        second = end_ms // 1000
        for number, coin in enumerate(coins):
            trembling = coin.prices[-1] * (1 + 0.0006 * np.sin(second / 3 + number) * (second % (number % 4 + 1) == 0))
            price = prices.get(coin.symbol, float(f"{trembling:.7g}"))
            rest = (price, price * 0.9999, price * 1.0001, 1.5, 3, None, False, end_ms - 60_000)
            window = Window(coin.symbol, end_ms - 3000, end_ms, price, *rest)
            yield Record(WINDOWS.name, coin.symbol.encode(), encode_event(window), end_ms - 1)

    def candles(self, coins: Sequence[Coin], *, lines: int) -> Iterator[Record]:
        """A day's candles: of four hours, and finer ones after them; of the first `lines` symbols half hours too."""
        finest = ("4h", "1h", "30m", "15m", "5m", "1m")
        for number, coin in enumerate(coins):
            reached_ms = (self.now_ms - DAY_MS) // INTERVALS["4h"] * INTERVALS["4h"]
            for interval in finest:
                length_ms = INTERVALS[interval]
                first_ms = self.now_ms - DAY_MS - length_ms if interval == LINES and number < lines else reached_ms
                if interval == finest[-1]:
                    # The newest minute is always there, in the first one after five too: a symbol without windows has its price from it.
                    first_ms = min(first_ms, self.now_ms - length_ms - MINUTE_MS)
                opens = range(-(-first_ms // length_ms) * length_ms, self.now_ms - length_ms + 1, length_ms)
                yield from (self._candle(coin, interval, opened_ms) for opened_ms in opens)
                reached_ms = max(reached_ms, opens[-1] + length_ms) if opens else reached_ms

    def indicators(self, coins: Sequence[Coin], interval: str, shift: float = 0.0) -> Iterator[Record]:
        """The newest closed candle's RSI of each symbol that has one."""
        length_ms = INTERVALS[interval]
        opened_ms = self.now_ms // length_ms * length_ms - length_ms
        for coin in coins:
            if coin.rsi is None:
                continue
            key = {"s": coin.symbol, "i": interval, "t": opened_ms, "T": opened_ms + length_ms - 1, "c": float(coin.prices[-1])}
            rsi = min(99.0, max(1.0, coin.rsi + shift))
            told = key | {"values": {"rsi_14": rsi}, "unready": [] if coin.ready else ["rsi_14"], "since": opened_ms, "revision": 0}
            yield Record(INDICATORS.name, coin.symbol.encode(), orjson.dumps(told), opened_ms + length_ms - 1)

    def _candle(self, coin: Coin, interval: str, opened_ms: int) -> Record:
        length_ms = INTERVALS[interval]
        first = (opened_ms - self.start_ms) // MINUTE_MS
        prices = coin.prices[first : first + length_ms // MINUTE_MS + 1]
        quote = coin.turnover * length_ms / MINUTE_MS
        told = {
            **{"s": coin.symbol, "i": interval, "t": opened_ms, "T": opened_ms + length_ms - 1},
            **{name: f"{price:.8f}" for name, price in (("o", prices[0]), ("h", prices.max()), ("l", prices.min()), ("c", prices[-1]))},
            **{"v": f"{quote / prices[0]:.8f}", "q": f"{quote:.8f}", "V": "0.00000000", "Q": "0.00000000"},
            **{"n": 10, "f": None, "L": None, "klines": 0, "complete": True, "origin": "history", "revision": 1},
        }
        return Record(CANDLES.name, coin.symbol.encode(), orjson.dumps(told), opened_ms + length_ms - 1)

    def _coin(self, symbol: str, base: str, quote: str) -> Coin:
        rng = self._rng
        prices = np.maximum(self._path(base) / self._path(quote), 1e-6)
        place = KNOWN.index(base) if base in KNOWN else len(KNOWN) + int(rng.integers(1, 400))
        turnover = float(9e5 / (1 + place) ** 1.35 * rng.uniform(0.5, 1.5) / WORTH[quote] * (1.0 if quote == "USDT" else 0.12))
        moved = np.log(prices[-1] / prices[0])
        rsi = None if rng.random() < 0.01 else float(np.clip(50 + 260 * moved + rng.normal(0, 8), 6, 94))
        return Coin(symbol, prices, turnover, rsi, bool(rng.random() > 0.04))

    def _path(self, asset: str) -> npt.NDArray[np.float64]:
        """What an asset was worth each minute."""
        if asset not in self._paths:
            rng, size = self._rng, 0.02 if asset in FLAT else 1.0
            worth = WORTH.get(asset) or float(10 ** rng.uniform(-2.5, 1.5))
            noise = rng.normal(0, 0.0005, self._minutes).cumsum()
            self._paths[asset] = worth * np.exp(size * (np.linspace(-rng.normal(0, 0.02), 0, self._minutes) + noise - noise[-1]))
        return self._paths[asset]


def _markets(count: int) -> Iterator[tuple[str, str, str]]:
    """Symbols with their assets: the crosses first, then each quote with as many bases as it has a share."""
    bases = [*KNOWN, *_invented()]
    given = set(CROSSES)
    for symbol in CROSSES[:count]:
        quote = next(quote for quote in ("USDT", "TRY", "BRL") if symbol.endswith(quote))
        yield symbol, symbol.removesuffix(quote), quote
    for quote, share in QUOTES.items():
        for base in bases[: round(share * count)]:
            symbol = base + quote
            if base != quote and symbol not in given and len(given) < count:
                given.add(symbol)
                yield symbol, base, quote


def _invented() -> list[str]:
    return [a + b + c + d for a in "BDGKLMNPRSTVZ" for b in "AEIOU" for c in "LMNRSX" for d in ("", "A", "O")]
