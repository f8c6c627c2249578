"""What a model says as candles close: records of indicators in, predictions out. Pure, and bounded in memory.

    BTC 10:00 ─┐
    ETH 10:00 ─┼─► all in the reach of BTC are there ─► BTC 10:00: prediction
    SOL 10:00 ─┘
    ETH 10:00, revision 7 ─► replaces the one before ─► BTC 10:00: another prediction, of other inputs

A prediction's value follows from the records that it was made from, and its identity names them. So it doesn't matter when records
come, in what order, or how often: no identity has two values.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from klinestream.market.decimals import Floats
from klinestream.market.events import Indicators, Prediction
from klinestream.models.inputs import model_inputs
from klinestream.models.model import Forecasts
from klinestream.models.storage import Stored

HELD_MOST = 100_000  # records, about 50 MB: an hour of minutes of all symbols; what a restart reads comes partition by partition
_DIGEST_CHARACTERS = 16


@dataclass(slots=True)
class Counts:
    """What became of records."""

    other: int = 0
    """Of other intervals or symbols."""
    unready: int = 0
    late: int = 0
    """Of moments that are held no more."""
    replaced: int = 0
    """Repeats, and records that count less than the one that is held."""


@dataclass(slots=True)
class _Moment:
    """What is known of one open time: by symbol the record without its values, the inputs from them, and what was said."""

    records: dict[int, Indicators] = field(default_factory=dict)
    inputs: dict[int, Floats] = field(default_factory=dict)
    said: dict[int, str] = field(default_factory=dict)


class Live:
    """A model over a stream of records. Not for several threads at once."""

    def __init__(self, stored: Stored) -> None:
        """Nothing is held yet."""
        self.counts = Counts()
        self._id, self._model, self._task = stored.id, stored.model, stored.header.task
        self._places = {name: place for place, name in enumerate(stored.header.symbols)}
        self._reach = [self._model.reach(place) for place in range(len(self._places))]
        self.hears_others = any(len(reach) > 1 for reach in self._reach)
        self._moments: dict[int, _Moment] = {}
        self._held = 0
        self._gone_ms = -1
        """Open time of the newest moment that was let go."""

    def take(self, records: Iterable[Indicators]) -> list[Prediction]:
        """The predictions that some records lead to."""
        known = [record for record in records if self._is_known(record)]
        if not self.hears_others:
            return self._each(known)
        touched = sorted({record.open_time_ms for record in known if self._hold(record)})
        found = [one for opened in touched for one in self._of_moment(self._moments[opened])]
        self._let_go()
        return found

    def __len__(self) -> int:
        """How many records are held."""
        return self._held

    def _is_known(self, record: Indicators) -> bool:
        if record.interval != self._task.interval or record.symbol not in self._places:
            self.counts.other += 1
            return False
        unready = set(record.unready)
        if record.close <= 0 or any(name in unready or record.values.get(name) is None for name in self._task.indicators):
            self.counts.unready += 1
            return False
        return True

    def _each(self, records: Sequence[Indicators]) -> list[Prediction]:
        if not records:
            return []
        said = self._model.predict(self._inputs(records)[None])
        return [self._prediction([record], record, said, place) for place, record in enumerate(records)]

    def _hold(self, record: Indicators) -> bool:
        """Whether it is new, or counts more than the one before."""
        if record.open_time_ms <= self._gone_ms:
            self.counts.late += 1
            return False
        moment, place = self._moments.setdefault(record.open_time_ms, _Moment()), self._places[record.symbol]
        held = moment.records.get(place)
        if held is not None and _rank(record) <= _rank(held):
            self.counts.replaced += 1
            return False
        self._held += held is None
        moment.records[place], moment.inputs[place] = replace(record, values={}, unready=()), self._inputs([record])[0]
        return True

    def _let_go(self) -> None:
        """Of the oldest moments, where too much is held."""
        if self._held <= HELD_MOST:
            return
        for opened in sorted(self._moments):
            if self._held <= HELD_MOST:
                return
            self._held -= len(self._moments.pop(opened).records)
            self._gone_ms = opened

    def _of_moment(self, moment: _Moment) -> list[Prediction]:
        inputs = np.full((len(self._places), len(self._task.indicators)), np.nan)
        inputs[list(moment.inputs)] = list(moment.inputs.values())
        said = self._model.predict(inputs[None])
        found = []
        for place, record in sorted(moment.records.items()):
            made_from = [moment.records[each] for each in self._reach[place] if each in moment.records]
            if len(made_from) < len(self._reach[place]):
                continue
            one = self._prediction(made_from, record, said, place)
            if moment.said.get(place) != one.inputs:
                moment.said[place] = one.inputs
                found.append(one)
        return found

    def _inputs(self, records: Sequence[Indicators]) -> Floats:
        close = np.array([record.close for record in records])
        values = np.array([[record.values[name] for name in self._task.indicators] for record in records], np.float64)
        return model_inputs(self._task.indicators, close, values)

    def _prediction(self, made_from: Sequence[Indicators], record: Indicators, said: Forecasts, place: int) -> Prediction:
        return Prediction(
            symbol=record.symbol,
            interval=record.interval,
            open_time_ms=record.open_time_ms,
            close_time_ms=record.close_time_ms,
            model=self._id,
            horizon=self._task.horizon,
            prediction=float(said.returns[0, place]),
            probability=float(said.probabilities[0, place]),
            inputs=inputs_digest(made_from),
            since_ms=max(one.since_ms for one in made_from),
            revision=sum(one.revision for one in made_from),
        )


def inputs_digest(made_from: Iterable[Indicators]) -> str:
    """Names the records that a prediction was made from, whatever their order."""
    lines = sorted(f"{one.symbol} {one.since_ms} {one.revision}" for one in made_from)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_DIGEST_CHARACTERS]


def _rank(record: Indicators) -> tuple[int, int]:
    return record.revision, -record.since_ms
