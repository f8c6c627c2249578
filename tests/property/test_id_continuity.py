"""Whatever a feed does to its entries, what the machine publishes is the true series of ids, or what is missing is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.id_continuity import IdContinuity, Span, Verdict

FIRST_ID = 1000

lengths = st.lists(st.integers(1, 4), min_size=1, max_size=30)


@dataclass(frozen=True)
class A:
    """An aggregate, or a single trade."""

    first_id: int
    last_id: int


def series(counts: Sequence[int]) -> list[A]:
    """Aggregates of so many trades each."""
    ends = list(accumulate(counts, initial=FIRST_ID))
    return [A(start, end - 1) for start, end in pairwise(ends)]


def ids(entries: Sequence[A]) -> list[int]:
    """All ids, in order."""
    return [number for entry in entries for number in range(entry.first_id, entry.last_id + 1)]


def missing(machine: IdContinuity[A]) -> list[int]:
    """All ids that the machine calls missing."""
    return [number for start, end in machine.gaps for number in range(start, end)]


def singles(span: Span) -> list[A]:
    """The trades of a span one by one."""
    return [A(number, number) for number in range(*span)]


@given(lengths, st.data())
def test_loss_repeats_and_disorder_end_in_the_true_series(counts: list[int], data: st.DataObject) -> None:
    """Entries lost, repeated and in any order, and the rest from REST in any pieces: each id once, in order, once all was there."""
    truth = series(counts)
    machine: IdContinuity[A] = IdContinuity(FIRST_ID - 1)
    published: list[A] = []
    for entry in data.draw(st.permutations(data.draw(st.lists(st.sampled_from(truth))))):
        verdict, out = machine.live(entry)
        published += out
        assert (entry in out) == (verdict is Verdict.PUBLISH)
    assert ids(published) == list(range(FIRST_ID, FIRST_ID + len(ids(published))))
    for entry in data.draw(st.permutations(truth)):
        published += machine.refill([entry])
    published += machine.refill(truth)
    assert published == truth
    assert not machine.holding
    assert machine.newest_id == truth[-1].last_id


@given(lengths, st.data())
def test_what_is_missing_is_just_what_did_not_come(counts: list[int], data: st.DataObject) -> None:
    """At any moment the gaps are the ids below the highest one seen that came in no entry."""
    truth = series(counts)
    machine: IdContinuity[A] = IdContinuity(FIRST_ID - 1)
    seen: set[int] = set()
    for entry in data.draw(st.lists(st.sampled_from(truth))):
        machine.live(entry)
        seen.update(ids([entry]))
        assert missing(machine) == [number for number in range(FIRST_ID, max(seen) + 1) if number not in seen]


@given(lengths, lengths, st.data())
def test_two_ways_to_aggregate_never_give_an_id_twice(counts: list[int], others: list[int], data: st.DataObject) -> None:
    """Entries of two series with other bounds, live and from REST: what is published is in order, each id once; singles fill the rest."""
    entries = [*series(counts), *series(others)]
    machine: IdContinuity[A] = IdContinuity(FIRST_ID - 1)
    published: list[A] = []
    for entry in data.draw(st.lists(st.sampled_from(entries))):
        published += machine.live(entry)[1]
    published += machine.refill(data.draw(st.lists(st.sampled_from(entries))))
    for gap in machine.gaps:
        published += machine.refill(singles(gap))
    assert not machine.holding
    assert ids(published) == list(range(FIRST_ID, FIRST_ID + len(ids(published))))


@given(lengths, st.data())
def test_what_is_given_up_is_what_lacks(counts: list[int], data: st.DataObject) -> None:
    """After giving up, published and given-up ids together are all up to the newest, none in both, and the series goes on from there."""
    truth = series(counts)
    machine: IdContinuity[A] = IdContinuity(FIRST_ID - 1)
    published: list[A] = []
    given_up: list[int] = []
    for entry in data.draw(st.lists(st.sampled_from(truth), min_size=1)):
        published += machine.live(entry)[1]
        if data.draw(st.booleans()):
            spans, out = machine.give_up()
            given_up += [number for span in spans for number in range(*span)]
            published += out
    spans, out = machine.give_up()
    given_up += [number for span in spans for number in range(*span)]
    published += out
    assert not machine.holding
    assert ids(published) == sorted(ids(published))
    assert sorted([*ids(published), *given_up]) == list(range(FIRST_ID, (machine.newest_id or 0) + 1))
    after = A((machine.newest_id or 0) + 1, (machine.newest_id or 0) + 3)
    assert machine.live(after) == (Verdict.PUBLISH, [after])


def test_old_entries_are_told_apart_from_repeats() -> None:
    """Within the run known here it is a repeat, before it, or given up, it is stale."""
    machine: IdContinuity[A] = IdContinuity(10)
    assert machine.live(A(9, 10))[0] is Verdict.STALE
    machine.live(A(11, 12))
    assert machine.live(A(11, 12))[0] is Verdict.DUPLICATE
    machine.live(A(15, 15))
    assert machine.give_up() == ([(13, 15)], [A(15, 15)])
    assert machine.live(A(13, 14))[0] is Verdict.STALE
    assert machine.live(A(15, 15))[0] is Verdict.DUPLICATE
