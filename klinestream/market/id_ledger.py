"""The ledger of missing ids: the records of `crypto_id_gaps`, folded into what is known of each gap (see `stories`)."""

from typing import Any

from klinestream.market.codec import decode_id_gap
from klinestream.market.events import IdGap, IdGapState
from klinestream.market.stories import GAPS_MOST, Stories, Story

Gap = Story[IdGap]

_RANK = {state: rank for rank, state in enumerate(IdGapState)}
_OPEN = frozenset({IdGapState.DETECTED, IdGapState.DEFERRED})
_FILLED = frozenset({IdGapState.REFILLED, IdGapState.REPAIRED, IdGapState.RESYNCHRONISED})


class IdLedger(Stories[IdGap]):
    """Gaps of ids, by feed, symbol and id."""

    def __init__(self, most: int = GAPS_MOST) -> None:
        """Nothing is known yet."""
        super().__init__(decode_id_gap, most)

    def _is_open(self, record: IdGap) -> bool:
        return record.state in _OPEN

    def _is_filled(self, record: IdGap) -> bool:
        return record.state in _FILLED

    def _precedence(self, record: IdGap) -> tuple[Any, ...]:
        # See `ledger`: who settled it tells how; how far an open one is, tells the newest.
        time_ms = record.time_ms if record.state in _OPEN else -record.time_ms
        after_ms = -1 if record.after_ms is None else record.after_ms
        return _RANK[record.state], time_ms, record.obtained, record.producer, after_ms, record.before_ms, record.reason

    def _place(self, record: IdGap) -> tuple[Any, ...]:
        return record.feed, record.symbol, record.from_id, record.to_id

    def _age(self, record: IdGap) -> int:
        return record.before_ms
