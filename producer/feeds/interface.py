"""What a feed is: where it connects, what it promises, and what it reads. All else is shared.

    Feed.requests ─► session ─► raw ─► Feed.read ─► entries ─► Series, one a symbol ─► records
                                                                  │ wants
                                     REST ─► Feed.fetch ◄─────────┘

A feed has no state of a symbol and no thread. Reconnecting, hand-over, stalls, waiting, retrying, limits, dead letters, the ledger,
control, metrics and Kafka are the runner's. docs/feeds.md shows how to add one.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from klinestream.market.events import IdGapState
from klinestream.market.topics import Topic
from klinestream.runtime.rest import Rest
from producer.frames import Passed, Reply, Shutdown

NO_ID = -1


class Promise(enum.StrEnum):
    """How far a venue's order and completeness can be proved."""

    IDS = "ids"
    """Each entry says which ids it holds, and they continue: what is missing is known, and may be asked for."""
    ORDERED = "ordered"
    """Entries of a symbol come in order; whether one is missing nobody can tell."""
    NONE = "none"
    """Neither."""


@dataclass(slots=True)  # not frozen: one is made for every trade, and that would take three times as long
class Entry:
    """What a frame says of one symbol."""

    symbol: str
    """Ours: of another venue than Binance with the venue before it."""
    first_id: int
    """NO_ID where the venue gives none."""
    last_id: int
    time_ms: int
    content: Any
    """For the series of the same feed: a trade's fields as on the wire, a book's changed levels."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """A part of a frame, or an entry, that goes to the dead letters; the others count."""

    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Want:
    """What a series lacks: ids from `from_id` up to before `to_id`; None where the beginning, or the end, isn't known."""

    symbol: str
    from_id: int | None
    to_id: int | None
    cursor: int | None = None
    """For `Feed.fetch`: where to begin, if the venue counts that otherwise than entries, as aggregates beside trades."""
    after_ms: int | None = None
    """For `Feed.fetch`: time of the record before, if nothing else tells where to begin."""
    weight: int = 4
    """Of the request that fetches it, as the venue counts it."""
    urgent: bool = True
    """Live entries are held until it is answered."""


@dataclass(slots=True)
class Out:
    """A record to publish; its key is the symbol."""

    topic: str
    value: bytes
    time_ms: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A gap whose story has come to a new state."""

    from_id: int
    to_id: int
    state: IdGapState
    after_ms: int | None
    before_ms: int
    obtained: int = 0
    reason: str = ""


class Verdict(enum.StrEnum):
    """What became of a live entry."""

    PUBLISH = "publish"
    HOLD = "hold"
    DUPLICATE = "duplicate"
    STALE = "stale"


@dataclass(slots=True)
class Step:
    """What an entry, an answer or the end of a hold led to; `out` in the order in which it is to be published."""

    verdict: Verdict = Verdict.PUBLISH
    out: list[Out] = field(default_factory=list)
    gaps: list[Settled] = field(default_factory=list)
    letters: list[Unusable] = field(default_factory=list)
    withheld: Sequence[str] = ()
    """Why records are not published that were due: a word each, to be counted."""


class Series(Protocol):
    """One symbol's continuity: pure, it is told the time and opens no socket. The runner calls it under a lock."""

    @property
    def newest_ms(self) -> int | None:
        """Time of the newest published record."""

    @property
    def newest_id(self) -> int | None:
        """Up to which id all is published, or was given up; None where nothing is, or where the venue gives none."""

    def wants(self) -> Sequence[Want]:
        """What has to be fetched before anything held goes out; empty while all is well. Changes with each step only.

        It is looked at after the series was made, after a step that held or left a gap, and with each tick while it isn't empty; what
        was answered and is wanted still is asked for again after a moment.
        """

    def live(self, entry: Entry) -> Step:
        """Take what came over the websocket."""

    def answered(self, want: Want, answer: Any) -> Step:
        """Take what `Feed.fetch` gave for a want. It may be part of it, or useless: then `wants` says what is lacking still."""

    def tick(self, now_ms: int) -> Step:
        """A tenth of a second or so has passed: for what no later entry would prove; nothing for most."""

    def give_up(self) -> Step:
        """A hold has lasted too long: go on without what is missing, if that is possible at all."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says of a feed, and what its venue asks for."""

    symbols: tuple[str, ...] = ()
    """Ours, or patterns, to follow; none means those of [exchange]. A venue other than Binance has no list: names only."""
    hold_s: float = 10.0
    """How long entries are held without any of what they wait for having come; then the series gives up."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    """0 for none."""
    fallback_url: str = ""
    """Where to connect if `Feed.url` is blocked in this region (HTTP 451)."""
    one_connection: bool = False
    """The venue lets one connection be open: all symbols share it, and it ends before the next one begins."""
    sparse: bool = False
    """Symbols may be silent for long: then a connection proves by an answer to a ping that it lives, and no symbol counts as stalled."""
    request_pause_s: float = 0.34
    """Between two requests on a connection. Binance ends one that sends more than five messages a second, pongs included."""


class Feed(Protocol):
    """One venue's stream of one kind. Immutable; for any thread."""

    @property
    def name(self) -> str:
        """`trades`, `books`, `finnhub`: in commands, metrics, the ledger and logs."""

    @property
    def source(self) -> str:
        """On each record: `binance`, `finnhub`."""

    @property
    def promise(self) -> Promise:
        """How far order and completeness can be proved."""

    @property
    def topic(self) -> Topic:
        """Where its records go; the tails of this topic are where a new process goes on."""

    @property
    def settings(self) -> Settings:
        """What the runner is to know."""

    def url(self) -> str:
        """Where to connect; may hold a secret in its query, which is never logged."""

    def requests(self, method: str, symbols: Sequence[str], first_id: int) -> list[tuple[int | None, bytes]]:
        """What to send for SUBSCRIBE or UNSUBSCRIBE, each with the id of the reply that is to come, None where none does."""

    def read(self, raw: bytes, now_ms: int) -> Sequence[Entry | Unusable] | Passed | Reply | Shutdown:
        """What a frame says, a list if of symbols. Raises RecordError, with a short reason for the dead letters."""

    def series(self, symbol: str, tail: bytes | None) -> Series:
        """A symbol's series, continuing after the newest record of the topic, or beginning."""

    def fetch(self, rest: Rest, want: Want) -> Any:
        """Ask REST for what a series lacks. Raises PassingError to be tried again, ExchangeError where that is useless."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What an answer gave of ids that the feed went on without."""

    out: list[Out]
    to_id: int
    """All before it is there now, or was before; the want's `from_id` if the answer is of no use."""
    want: Want
    """The next one; the same again if the answer is of no use."""


@runtime_checkable
class Repairing(Protocol):
    """A feed whose deferred ids are fetched on, for its topic of repairs. One whose series never defer needs none of it."""

    def missing(self, symbol: str, from_id: int, to_id: int, after_ms: int | None) -> Want:
        """What to fetch of ids that the ledger calls deferred."""

    def repair(self, want: Want, answer: Any) -> Repaired:
        """Records for what `fetch` gave: as much as is proved to go on from the want's beginning."""


class Immediate:
    """The part of a series that waits for nothing, of a venue that keeps nothing: what comes goes out, or is told to be missing."""

    def wants(self) -> Sequence[Want]:
        """Nothing could be fetched."""
        return ()

    def answered(self, want: Want, answer: Any) -> Step:  # noqa: ARG002  # see `Series`
        """Nothing is asked for."""
        return Step()

    def tick(self, now_ms: int) -> Step:  # noqa: ARG002  # see `Series`
        """The clock proves nothing."""
        return Step()

    def give_up(self) -> Step:
        """Nothing is held."""
        return Step()


@runtime_checkable
class Interruptible(Protocol):
    """A series that has to know when its connection is lost, since nothing that comes later tells."""

    def interrupted(self) -> None:
        """Nothing is heard from now on, up to the next entry."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison with the venue's own word gave."""

    items: int
    """How many things were compared, klines for example."""
    differing: tuple[str, ...] = ()
    """The fields in which they differ, once for each time."""
    detail: str = ""
    """For a person to read."""


@runtime_checkable
class Comparable(Protocol):
    """A feed whose records can be held to something else that the venue says; the runner does it all the time, a symbol after the other."""

    def compare(self, rest: Rest, symbol: str, values: Sequence[bytes]) -> Compared:
        """Hold some seconds' published records of a symbol, one after the other, to what REST says. Raises ExchangeError."""
