import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.runtime.weights import MINUTE_MS, Sent, Weights

START_MS = 1_700_000_040_000  # a whole minute
LIMIT = 200


class Clock:
    """Both clocks of a Weights, moved by hand."""

    def __init__(self, ms: int = START_MS) -> None:
        self.ms = ms

    def monotonic_s(self) -> float:
        return self.ms / 1000

    def wall_ms(self) -> int:
        return self.ms

    def weights(self, limit: int = LIMIT) -> Weights:
        return Weights(limit, self.monotonic_s, self.wall_ms)


@given(
    st.lists(st.tuples(st.integers(1, 30), st.booleans(), st.integers(0, 5000), st.integers(0, 30_000), st.integers(0, 5000)), max_size=80)
)
def test_never_more_than_the_share(requests: list[tuple[int, bool, int, int, int]]) -> None:
    """Whatever time requests take there and back, and wherever a minute turns, the exchange never counts more than 90 % in one."""
    clock, counted = Clock(), dict[int, int]()
    weights = clock.weights()
    under_way: list[tuple[int, int, str]] = []  # when it arrives or is answered, which, what
    sent: dict[int, Sent] = {}
    replies: dict[int, str] = {}

    def go_on(until_ms: int) -> None:
        while under_way and under_way[0][0] <= until_ms:
            at_ms, which, what = heapq.heappop(under_way)
            clock.ms = at_ms
            if what == "arrives":
                minute = at_ms // MINUTE_MS
                counted[minute] = counted.get(minute, 0) + sent[which].weight
                replies[which] = str(counted[minute])
            else:
                weights.answered(sent[which], 200, replies[which], None)
        clock.ms = until_ms

    for which, (weight, urgent, gap_ms, there_ms, back_ms) in enumerate(requests):
        go_on(clock.ms + gap_ms)
        taken = weights.take(weight, urgent)
        if taken is not None:
            sent[which] = taken
            heapq.heappush(under_way, (clock.ms + there_ms, which, "arrives"))
            heapq.heappush(under_way, (clock.ms + there_ms + back_ms, which, "is answered"))
    go_on(clock.ms + 40_000)
    assert all(used <= LIMIT * 90 // 100 for used in counted.values())


@given(st.integers(0, MINUTE_MS - 1), st.integers(1, 50), st.booleans())
def test_a_full_share_waits_for_the_minute(into_ms: int, weight: int, urgent: bool) -> None:
    """Who is not let in waits for the full minute and is let in then; until then he would be refused."""
    clock = Clock(START_MS + into_ms)
    weights = clock.weights()
    while (sent := weights.take(weight, urgent)) is not None:
        weights.answered(sent, 200, None, None)
    wait_s = weights.wait_s(weight, urgent)
    assert wait_s == (MINUTE_MS - into_ms) / 1000
    clock.ms += round(wait_s * 1000) - 1
    assert weights.take(weight, urgent) is None
    clock.ms += 1
    assert weights.take(weight, urgent) is not None


def test_urgent_requests_have_more_room() -> None:
    """Half of the limit is for all requests, and what lies above it, up to 90 %, for urgent ones."""
    weights = Clock().weights()
    taken = [weights.take(10, urgent=False) for _ in range(12)]
    assert [sent is not None for sent in taken] == [True] * 10 + [False] * 2
    taken = [weights.take(10, urgent=True) for _ in range(10)]
    assert [sent is not None for sent in taken] == [True] * 8 + [False] * 2
    assert weights.used() == 180


def test_others_at_our_address_count() -> None:
    """What the exchange says is used counts, though we didn't send it; what is on its way comes on top."""
    weights = Clock().weights()
    first, second = weights.take(2, urgent=False), weights.take(2, urgent=False)
    assert first is not None
    assert second is not None
    weights.answered(first, 200, "95", None)
    assert weights.used() == 97
    assert weights.wait_s(3, urgent=False) == 0
    assert weights.wait_s(4, urgent=False) == 60
    weights.answered(second, 200, "97", None)
    assert weights.used() == 97


def test_an_answer_from_the_last_minute() -> None:
    """An answer to a request of the minute before doesn't fill this one; the request itself may count in it."""
    clock = Clock(START_MS + 59_000)
    weights = clock.weights()
    sent = weights.take(5, urgent=True)
    assert sent is not None
    clock.ms += 2000
    weights.answered(sent, 200, "180", None)
    assert weights.used() == 5


def test_lost_requests_count() -> None:
    """A request without an answer may have been counted by the exchange."""
    weights = Clock().weights()
    sent = weights.take(40, urgent=True)
    assert sent is not None
    weights.lost(sent)
    assert weights.used() == 40


@pytest.mark.parametrize(
    ("status", "retry_after", "closed_s"),
    [(429, "7", 7), (418, "259200", 259_200), (429, None, 60), (418, None, 120), (418, "soon", 120), (200, "7", 0), (503, "7", 0)],
)
def test_refusals_close(status: int, retry_after: str | None, closed_s: int) -> None:
    """After 429 and 418 nothing is sent until Retry-After is over, urgent or not, full minute or not."""
    clock = Clock()
    weights = clock.weights()
    sent = weights.take(1, urgent=True)
    assert sent is not None
    weights.answered(sent, status, "1", retry_after)
    assert weights.closed_s() == weights.wait_s(1, urgent=True) == closed_s
    if closed_s:
        clock.ms += closed_s * 1000 - 1
        assert weights.take(1, urgent=True) is None
        clock.ms += 1
    assert weights.take(1, urgent=True) is not None


def test_a_later_refusal_does_not_shorten() -> None:
    """The longest of several refusals holds."""
    clock = Clock()
    weights = clock.weights()
    first, second = weights.take(1, urgent=True), weights.take(1, urgent=True)
    assert first is not None
    assert second is not None
    weights.answered(first, 418, "1", "100")
    weights.answered(second, 429, "2", "1")
    assert weights.closed_s() == 100


def test_a_limit_that_is_too_small() -> None:
    """A limit under which a single request might never pass is refused."""
    with pytest.raises(ValueError, match="at least 100"):
        Clock().weights(99)
