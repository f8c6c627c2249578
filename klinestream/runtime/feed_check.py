"""Some minutes of the feed beside what the exchange says of them: the topic read once, then REST asked symbol after symbol."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from klinestream.market.codec import decode_kline
from klinestream.market.errors import BrokerError, ConfigError, ExchangeError, RecordError
from klinestream.market.events import SECOND_MS, GapState, Kline
from klinestream.market.ledger import Ledger
from klinestream.market.partitions import partition_of
from klinestream.market.reconcile import Against, Mismatch, Missing, differences, mismatches, missing_spans, references
from klinestream.market.topics import KLINES
from klinestream.runtime.kafka import Reader, Record, open_reader
from klinestream.runtime.rest import BannedError, NotYetError, PassingError, Rest
from klinestream.runtime.sections import KafkaConfig

T = TypeVar("T")

CLIENT_ID = "klinestream-verify"
KLINES_MOST = 1_000_000
"""Klines that are checked at most in one go: they are held in memory, some 400 bytes each."""
BEFORE_MS = 10_000
"""A symbol with a kline this shortly before the span is expected in it from its start on."""
TOLD_MOST = 1000
"""Mismatches that a report holds; all are counted."""
_CHUNK_MS = 300_000  # one request of klines has room for it, and BTCUSDT makes some 5,000 aggregated trades in that time
_POLL_S = 0.5
_SILENCE_S = 15.0
_ATTEMPTS = 8
_WAIT_MOST_S = 90.0  # the exchange's limits end with each minute; a ban lasts longer

Span = tuple[int, int]
Told = Callable[[int, int], object]
"""Called with how much is done, and of how much."""


@dataclass(slots=True)
class Findings:
    """What was found of one symbol, or of all of them."""

    klines: int = 0
    """Seconds of the span that are in the topic."""
    repeats: int = 0
    """Further records of such seconds."""
    checked: Counter[Against] = field(default_factory=Counter)
    """How many of the records were compared with what."""
    fields: Counter[tuple[str, Against]] = field(default_factory=Counter)
    """Mismatches by field."""
    mismatches: list[Mismatch] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    unchecked: dict[str, str] = field(default_factory=dict)
    """Symbol → why the exchange could not be asked."""
    began: dict[str, int] = field(default_factory=dict)
    """Symbol → open time of its first kline, where that lies within the span."""

    def add(self, other: "Findings") -> None:
        """Take another symbol's in."""
        self.klines += other.klines
        self.repeats += other.repeats
        self.checked += other.checked
        self.fields += other.fields
        self.mismatches += other.mismatches[: max(0, TOLD_MOST - len(self.mismatches))]
        self.missing += other.missing
        self.unchecked |= other.unchecked
        self.began |= other.began

    @property
    def sound(self) -> bool:
        """Everything was checked, nothing differs, and the ledger knows of all that is missing."""
        return not self.fields and not self.unchecked and all(span.explained for span in self.missing)


@dataclass(slots=True)
class Published:
    """The records of a span, by symbol."""

    values: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    unusable: int = 0

    def klines(self, symbol: str) -> list[Kline]:
        """What can be used of a symbol's; the rest is counted as unusable."""
        found = []
        for value in self.values.get(symbol, ()):
            try:
                kline = decode_kline(value)
            except RecordError:
                self.unusable += 1
                continue
            if kline.symbol == symbol:
                found.append(kline)
            else:
                self.unusable += 1
        return found


def check_size(symbols: int, span: Span) -> None:
    """Raise ConfigError for more klines than are checked in one go."""
    klines = symbols * (span[1] - span[0]) // SECOND_MS
    if klines > KLINES_MOST:
        raise ConfigError(
            f"--symbols, --minutes: expected up to {KLINES_MOST:,} klines to check, got {klines:,}: ask for fewer minutes or symbols"
        )


def read_published(config: KafkaConfig, symbols: Collection[str], span: Span, told: Told = lambda _done, _all: None) -> Published:
    """The records of these symbols whose timestamp lies in a span, or up to `BEFORE_MS` before it. Raises BrokerError."""
    with closing(open_reader(config, CLIENT_ID)) as reader:
        bounds = reader.bounds(KLINES.name)
        partitions = {partition_of(symbol, len(bounds)) for symbol in symbols}
        begin = reader.offsets_at(KLINES.name, span[0] - BEFORE_MS)
        ends = {partition: bounds[partition][1] for partition in partitions if begin[partition] < bounds[partition][1]}
        reader.assign({(KLINES.name, partition): begin[partition] for partition in ends})
        total = sum(end - begin[partition] for partition, end in ends.items())
        keys = {symbol.encode() for symbol in symbols}
        published = Published()
        for count, record in enumerate(_records(reader, ends), 1):
            if record.key in keys and span[0] - BEFORE_MS <= record.timestamp_ms < span[1]:
                published.values[(record.key or b"").decode()].append(record.value or b"")
            told(min(count, total), total)
    return published


def _records(reader: Reader, ends: dict[int, int]) -> Iterator[Record]:
    """All up to these offsets."""
    ends = dict(ends)
    heard_s = time.monotonic()
    while ends:
        for record in reader.poll(_POLL_S):
            end = ends.get(record.partition)
            if end is None or record.offset >= end:
                ends.pop(record.partition, None)
                continue
            heard_s = time.monotonic()
            yield record
            if record.offset + 1 >= end:
                del ends[record.partition]
        if time.monotonic() - heard_s > _SILENCE_S:
            raise BrokerError(
                f"expected {KLINES.name} up to offset {ends} (partition: offset), but nothing came for {_SILENCE_S:g} s: "
                "check that the broker runs, and what it logs; then try again"
            )


def known_gaps(ledger: Ledger) -> Mapping[str, list[tuple[int, int, GapState]]]:
    """Symbol → its gaps in the ledger."""
    known: dict[str, list[tuple[int, int, GapState]]] = defaultdict(list)
    for gap in ledger.gaps():
        known[gap.record.symbol].append((gap.record.from_ms, gap.record.to_ms, gap.record.state))
    return known


def check(
    rest: Rest, symbol: str, klines: Iterable[Kline], span: Span, known: Iterable[tuple[int, int, GapState]], *, trades: bool
) -> Findings:
    """One symbol: its published klines of a span, and of a little before it, beside the ledger and what the exchange says.

    Without a kline shortly before the span, or a gap there, the symbol is expected from its first kline on. Raises
    PassingError if the exchange is away; an answer that can't be used is a finding.
    """
    all_of_it = list(klines)
    known = [gap for gap in known if gap[1] > span[0] - BEFORE_MS and gap[0] < span[1]]
    of_span: dict[int, list[Kline]] = defaultdict(list)
    for kline in all_of_it:
        if span[0] <= kline.open_time_ms < span[1]:
            of_span[kline.open_time_ms].append(kline)
    found = Findings(klines=len(of_span), repeats=sum(map(len, of_span.values())) - len(of_span))
    from_ms = _expected_from(span[0], (kline.open_time_ms for kline in all_of_it), known)
    if from_ms > span[0]:
        found.began[symbol] = from_ms
    found.missing = missing_spans(symbol, of_span, from_ms, span[1], known)
    try:
        for start_ms in range(from_ms, span[1], _CHUNK_MS):
            _compare(rest, symbol, of_span, (start_ms, min(start_ms + _CHUNK_MS, span[1])), found, trades=trades)
    except PassingError:
        raise  # it won't answer for the next symbol either
    except ExchangeError as error:
        found.unchecked[symbol] = str(error)
    return found


def _expected_from(from_ms: int, opened: Iterable[int], known: Iterable[tuple[int, int, GapState]]) -> int:
    first_ms = min(opened, default=from_ms)
    return max(from_ms, min([first_ms, *(gap[0] for gap in known)]))


def _compare(rest: Rest, symbol: str, published: Mapping[int, list[Kline]], span: Span, found: Findings, *, trades: bool) -> None:
    ours = [kline for opened in range(*span, SECOND_MS) for kline in _distinct(published.get(opened, ()))]
    if not ours:
        return
    before_ms = span[0] - SECOND_MS
    klines = patiently(lambda: rest.klines(symbol, before_ms, span[1]))
    made = rest.agg_trades(symbol, *span, through=patiently) if trades else None
    for against, others in references(symbol, klines, made, *span).items():
        lacking = sum(kline.open_time_ms not in others for kline in ours)
        if lacking and against is Against.KLINES:
            found.unchecked[symbol] = f"the exchange has no klines of {lacking} seconds that were published"
        found.checked[against] += sum(kline.open_time_ms in others for kline in ours)
        for mismatch in mismatches(ours, others, against):
            found.fields[mismatch.field, against] += 1
            if len(found.mismatches) < TOLD_MOST:
                found.mismatches.append(mismatch)


def _distinct(klines: Iterable[Kline]) -> list[Kline]:
    """One of each content: two producers publish the same second, and it should be the same kline."""
    found: list[Kline] = []
    for kline in klines:
        if all(differences(kline, other) for other in found):
            found.append(kline)
    return found


def patiently(ask: Callable[[], T]) -> T:
    """What `ask` returns, once the exchange and its limits let it; raises its ExchangeError if they don't in some minutes."""
    retrying = Retrying(retry=retry_if_exception(_may_pass), wait=_wait_s, stop=stop_after_attempt(_ATTEMPTS), reraise=True)
    return retrying(ask)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, NotYetError):
        return error.wait_s <= _WAIT_MOST_S
    return isinstance(error, PassingError) and not isinstance(error, BannedError)


_backing_off = wait_exponential(multiplier=0.25, max=10)


def _wait_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.wait_s if isinstance(error, NotYetError) else _backing_off(state)
