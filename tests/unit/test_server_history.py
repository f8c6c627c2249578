"""The laws of the server's history."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from server.history import Entry, History

SPAN_MS = 10_000
SLIDE_MS = 500
SYMBOLS = ("BTCUSDT", "ETHUSDT", "PEPEUSDT")


def history(windows_most: int = 1000, symbols_most: int = 100) -> History:
    made = History(SPAN_MS, windows_most=windows_most, symbols_most=symbols_most)
    made.begin(dict.fromkeys(range(4), 0))
    return made


def entry(symbol: str, end: int, offset: int = 0, since: int = 0, revision: int = 0) -> Entry:
    """A window that ends `end` slides after zero; its value tells its identity."""
    return Entry(symbol, end * SLIDE_MS, since, revision, SYMBOLS.index(symbol), offset, f"{symbol}/{end}/{since}/{revision}".encode())


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """What a topic may hold: offsets that grow, ends in any order, repeats, later runs and repairs."""
    claims = draw(
        st.lists(st.tuples(st.sampled_from(SYMBOLS), st.integers(1, 40), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=80)
    )
    return [entry(symbol, end, offset, since, revision) for offset, (symbol, end, since, revision) in enumerate(claims)]


def filled(found: Sequence[Entry]) -> History:
    made = history()
    for one in found:
        made.add(one)
    return made


@given(entries(), st.randoms())
def test_the_order_of_records_does_not_matter(found: list[Entry], random: object) -> None:
    """Any permutation of the same records gives the same windows."""
    mixed = list(found)
    random.shuffle(mixed)  # type: ignore[attr-defined]  # hypothesis' Random
    one, other = filled(found), filled(mixed)
    assert one.symbols() == other.symbols()
    for symbol in SYMBOLS:
        assert one.snapshot(symbol).values == other.snapshot(symbol).values


@given(entries())
def test_each_window_is_held_once_and_by_its_best_record(found: list[Entry]) -> None:
    """Of the records of a window the highest revision counts, then the earliest since; all within the span, in order of time."""
    newest = max(one.end_ms for one in found)
    for symbol in SYMBOLS:
        best: dict[int, Entry] = {}
        for one in found:
            if one.symbol == symbol and one.end_ms > newest - SPAN_MS:
                best[one.end_ms] = max(best.get(one.end_ms, one), one, key=lambda claim: (claim.revision, -claim.since_ms))
        assert list(filled(found).snapshot(symbol).values) == [best[end].value for end in sorted(best)]


@given(entries(), st.data())
def test_a_cursor_gives_exactly_what_was_missed(found: list[Entry], data: st.DataObject) -> None:
    """Who resumes from a cursor ends with what a fresh snapshot holds, or is told to take one."""
    split = data.draw(st.integers(0, len(found)))
    symbol = data.draw(st.sampled_from(SYMBOLS))
    made = filled(found[:split])
    held = made.snapshot(symbol)
    for one in found[split:]:
        made.add(one)
    missed = made.since(symbol, held.cursor)
    if missed is None:
        return
    by_end: dict[bytes, bytes] = {}
    for value in (*held.values, *missed.values):
        by_end[value.split(b"/")[1]] = value
    fresh = made.snapshot(symbol)
    assert set(fresh.values) <= set(by_end.values())
    assert missed.cursor == fresh.cursor
    assert set(missed.values) <= {one.value for one in found[split:]}


@given(entries(), st.integers(1, 5))
def test_the_caps_hold_whatever_comes(found: list[Entry], windows_most: int) -> None:
    """No symbol has more windows than its cap, and there are no more symbols than theirs."""
    made = history(windows_most=windows_most, symbols_most=2)
    for one in found:
        made.add(one)
    assert len(made.symbols()) <= 2
    assert all(len(made.snapshot(symbol).values) <= windows_most for symbol in SYMBOLS)


def test_a_cursor_older_than_the_history_needs_a_snapshot() -> None:
    """A cursor before what was dropped gives None: what was missed can't be told any more."""
    made = history()
    for end in range(1, 41):
        made.add(entry("BTCUSDT", end, offset=end))
    assert made.since("BTCUSDT", {0: 5}) is None
    assert made.since("BTCUSDT", {0: 40}) == made.since("BTCUSDT", {0: 40, 3: 7})


def test_a_cursor_ahead_of_the_history_needs_a_snapshot() -> None:
    """A cursor of a server further on, or of another topic, gives None."""
    made = history()
    made.add(entry("BTCUSDT", 1, offset=1))
    assert made.since("BTCUSDT", {0: 3}) is None
    assert made.since("BTCUSDT", {2: 1}) is None
    assert made.since("UNKNOWN", {0: 1}) is None


def test_a_symbol_without_windows_gives_its_place_to_a_new_one() -> None:
    """A full history forgets symbols that are quiet for longer than its span, and only those."""
    made = history(symbols_most=2)
    assert made.add(entry("BTCUSDT", 1))
    assert made.add(entry("ETHUSDT", 30))
    assert made.add(entry("PEPEUSDT", 31))
    assert made.symbols() == ["ETHUSDT", "PEPEUSDT"]
    assert not made.add(entry("BTCUSDT", 31))


def test_beginning_anew_forgets_everything() -> None:
    """After begin() nothing of the old topic is left."""
    made = filled([entry("BTCUSDT", 1)])
    made.begin({0: 0})
    assert made.symbols() == []
    assert made.newest_end_ms is None
    assert made.snapshot("BTCUSDT").values == ()
