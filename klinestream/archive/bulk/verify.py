"""Proves what was imported: each table holds what it was written with, is of the symbol and the span that its place tells, and in order."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from klinestream.archive.bulk.rows import MS_US, ints
from klinestream.archive.bulk.store import FOLDER, Source, Store
from klinestream.archive.bulk.tables import AGG_TRADE_SCHEMA, CANDLE_SCHEMA, KLINE_SCHEMA, TRADE_SCHEMA
from klinestream.archive.bulk.taking import CANDLES_FOLDER, KEYS, SECONDS_FOLDER, TRADE_FOLDERS
from klinestream.archive.files import date_of
from klinestream.market.errors import ArchiveError

_SCHEMAS = dict(
    zip(
        [SECONDS_FOLDER, CANDLES_FOLDER, *TRADE_FOLDERS.values()],
        [KLINE_SCHEMA, CANDLE_SCHEMA, TRADE_SCHEMA, AGG_TRADE_SCHEMA],
        strict=True,
    )
)
_PLACE = re.compile(
    r"(?P<folder>[\w]+)/(?:date=(?P<date>\d{4}-\d\d-\d\d)/(?P<symbol>[^/]+)|"
    r"interval=(?P<interval>\w+)/(?P<of>[^/]+)-(?P<month>\d{4}-\d\d))\.parquet"
)


@dataclass(slots=True)
class Series:
    """The imported tables of one symbol and kind."""

    folder: str
    """With the interval, if it has one."""
    symbol: str
    first: str
    """Day, or month."""
    last: str
    files: int = 0
    rows: int = 0
    faults: list[str] = field(default_factory=list)


def series(store: Store, *, check: bool) -> Iterator[Series]:
    """All that was imported, by kind and symbol; with `check` every table is read and proved. Raises ArchiveError without it."""
    hashes = {Source(told["file"], told["sha256"]): told["places"] for told in store.all_told()} if check else {}
    by_key: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for place in store.places():
        found = _PLACE.fullmatch(place)
        if found is None or found["folder"] not in KEYS:
            continue
        kind = f"{found['folder']} {found['interval']}" if found["interval"] else found["folder"]
        by_key.setdefault((kind, found["symbol"] or found["of"]), []).append((found["date"] or found["month"], place))
    for (kind, symbol), places in sorted(by_key.items()):
        places.sort()
        one = Series(kind, symbol, places[0][0], places[-1][0])
        for span, place in places:
            one.files += 1
            if check:
                _check(store, place, span, one, hashes)
            else:
                one.rows += store.rows_of(place)
        yield one


def missing_places(store: Store) -> list[str]:
    """What is wrong with the list of bulk files that were taken in."""
    faults = []
    for told in store.all_told():
        gone = [place for place in told["places"] if not store.exists(place)]
        faults += [f"{FOLDER}/{place} isn't there, though {told['file']} was imported: import that again" for place in gone]
    return faults


def _check(store: Store, place: str, span: str, found: Series, hashes: dict[Source, dict[str, str]]) -> None:
    try:
        kept = store.read(place)
    except ArchiveError as error:
        found.faults.append(str(error))
        return
    if kept is None:
        return
    table = kept.table
    found.rows += len(table)
    folder = place.partition("/")[0]
    faults = []
    if not table.schema.equals(_SCHEMAS[folder]):
        faults.append("its columns are of another version of klinestream")
    elif len(table):
        faults += _faults(table, KEYS[folder], span, found.symbol)
    told = [hashes.get(source) for source in kept.about.sources]
    # A kill may come before the last of them is told; then the digest, which `read` has compared, has to do.
    if None not in told and store.hash_of(place) not in [each.get(place) for each in told if each is not None]:
        faults.append("isn't as it was written: its hash is another")
    found.faults += [f"{FOLDER}/{place}: {fault}" for fault in faults]


def _faults(table: pa.Table, key: str, span: str, symbol: str) -> Iterator[str]:
    if not (np.diff(ints(table, key)) > 0).all():
        yield f"expected {key} to ascend, each once"
    times = ints(table, "time_us") // MS_US if "time_us" in table.column_names else ints(table, "open_time_ms")
    if not all(date_of(int(time)).startswith(span) for time in (times.min(), times.max())):
        yield f"holds times outside of {span}"
    if "symbol" in table.column_names and table.column("symbol").unique().to_pylist() != [symbol]:
        yield f"expected {symbol} only"
