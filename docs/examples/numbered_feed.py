"""A feed of a venue that numbers its trades and keeps none of them: `python docs/examples/numbered_feed.py ws://venue.example`.

It says {"s":"AAPL","n":17,"p":"190.25000000","v":"3.00000000","t":1700000000000} of each trade, once asked by {"follow":["AAPL"]}.
"""

import sys
from collections.abc import Sequence
from typing import Any

import orjson

from klinestream.market import codec
from klinestream.market.errors import ExchangeError, RecordError
from klinestream.market.events import IdGapState, Origin, Proof
from klinestream.market.id_continuity import IdContinuity
from klinestream.market.topics import TRADES
from klinestream.market.venues import name_of, symbol_of
from klinestream.runtime.config import load
from klinestream.runtime.rest import Rest
from producer.feed_app import run_feed
from producer.feeds.interface import Entry, Immediate, Out, Promise, Settings, Settled, Step, Verdict, Want


class Numbered:
    name, source, promise, topic = "numbered", "numbered", Promise.IDS, TRADES

    def __init__(self, url: str, *names: str) -> None:
        self.settings = Settings(tuple(symbol_of(self.source, name) for name in names), sparse=True)
        self._url = url

    def url(self) -> str:
        return self._url

    def requests(self, method: str, symbols: Sequence[str], first_id: int) -> list[tuple[int | None, bytes]]:
        return [(None, orjson.dumps({"follow" if method == "SUBSCRIBE" else "leave": [name_of(symbol) for symbol in symbols]}))]

    def read(self, raw: bytes, now_ms: int) -> list[Entry]:
        try:
            said = orjson.loads(raw)
            symbol, number = symbol_of(self.source, said["s"]), said["n"]
            ours = {"s": symbol, "a": None, "f": number, "l": number, "p": said["p"], "q": said["v"], "T": said["t"], "m": None, "c": None}
        except (orjson.JSONDecodeError, TypeError, KeyError):
            raise RecordError("not a trade") from None
        trade = codec.trade_from(ours | {"origin": Origin.LIVE, "source": self.source, "proof": Proof.IDS})
        return [Entry(symbol, number, number, trade.time_ms, codec.encode_event(trade))]

    def series(self, symbol: str, tail: bytes | None) -> "Series":
        return Series(tail)

    def fetch(self, rest: Rest, want: Want) -> Any:
        raise ExchangeError("this venue keeps no trades")


class Series(Immediate):
    def __init__(self, tail: bytes | None) -> None:
        newest = codec.decode_trade(tail) if tail else None
        self.newest_ms = newest.time_ms if newest else None
        self._ids = IdContinuity[Entry](newest.last_id if newest else None)
        self.newest_id = self._ids.newest_id

    def live(self, entry: Entry) -> Step:
        judged, out = self._ids.live(entry)
        lost, held = self._ids.give_up()  # nobody has what is missing: that it is missing is told, and the feed goes on
        gaps = [Settled(*ids, IdGapState.UNFILLABLE, self.newest_ms, entry.time_ms, reason="the venue keeps no trades") for ids in lost]
        if out or held:
            self.newest_ms, self.newest_id = entry.time_ms, entry.last_id
        verdict = Verdict.PUBLISH if lost else Verdict(judged.value)
        return Step(verdict, [Out(TRADES.name, one.content, one.time_ms) for one in out + held], gaps)


if __name__ == "__main__":
    run_feed(load(), Numbered(*sys.argv[1:]))
