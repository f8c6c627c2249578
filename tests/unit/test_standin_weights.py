from hypothesis import given
from hypothesis import strategies as st

from klinestream.standin.intervals import MINUTE_MS
from klinestream.standin.weights import ADDRESSES_MOST, BAN_FIRST_MS, BAN_MOST_MS, Accounts, Limits

START_MS = 1_700_000_040_000  # a whole minute


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 20_000)), max_size=60))
def test_weight_of_a_minute(requests: list[tuple[int, int]]) -> None:
    """What is used is the sum of the calendar minute's weights, and a request passes as long as that is within the limit."""
    accounts, now_ms, spent = Accounts(Limits(weight_per_minute=500, refusals_before_ban=1000)), START_MS, dict[int, int]()
    for weight, gap_ms in requests:
        now_ms += gap_ms
        minute = now_ms // MINUTE_MS
        spent[minute] = spent.get(minute, 0) + weight
        verdict = accounts.charge("a", weight, now_ms)
        assert verdict.used == spent[minute]
        assert verdict.status == (200 if spent[minute] <= 500 else 429)
        if verdict.status == 429:
            assert now_ms + verdict.retry_after_s * 1000 >= (minute + 1) * MINUTE_MS


def ban(accounts: Accounts, now_ms: int) -> int:
    """Go on until banned; gives when the ban ends."""
    while (verdict := accounts.charge("a", 10, now_ms)).status != 418:
        pass
    return verdict.banned_until_ms


def test_bans_grow() -> None:
    """Who goes on after 429 is banned for 2 min, then twice as long each time, up to 3 days."""
    accounts, now_ms, lengths = Accounts(Limits(weight_per_minute=10, refusals_before_ban=2)), START_MS, list[int]()
    for _ in range(13):
        until_ms = ban(accounts, now_ms)
        lengths.append(until_ms - now_ms)
        assert accounts.charge("a", 1, until_ms - 1).status == 418
        now_ms = until_ms + MINUTE_MS
        assert accounts.charge("a", 1, now_ms).status == 200
    assert lengths == [min(BAN_FIRST_MS * 2**n, BAN_MOST_MS) for n in range(13)]
    assert lengths[-1] == BAN_MOST_MS


def test_addresses_are_apart() -> None:
    """One address's weight and attempts are not another's."""
    accounts = Accounts(Limits(weight_per_minute=10, connections=1))
    assert accounts.charge("a", 11, START_MS).status == 429
    assert accounts.charge("b", 10, START_MS).status == 200
    assert [accounts.connect(address, START_MS) for address in "aab"] == [True, False, True]


def test_connection_attempts() -> None:
    """300 attempts pass within 5 minutes, and one more for each that is older."""
    accounts = Accounts(Limits())
    assert all(accounts.connect("a", START_MS + n) for n in range(300))
    assert not accounts.connect("a", START_MS + 299_999)
    assert accounts.connect("a", START_MS + 300_000)
    assert not accounts.connect("a", START_MS + 300_000)


def test_memory_is_bounded() -> None:
    """The addresses seen longest ago are forgotten, not the busy ones."""
    accounts = Accounts(Limits(weight_per_minute=5))
    for number in range(3 * ADDRESSES_MOST):
        accounts.charge(str(number), 1, START_MS)
        accounts.charge("busy", 0, START_MS)
    accounts.charge("busy", 5, START_MS)
    assert accounts.charge("0", 1, START_MS).used == 1
    assert accounts.charge("busy", 1, START_MS).status == 429
