"""Request weights and connection attempts of each address, as the exchange counts them.

::

    weight used in the minute  0 ───────── 6,000 ─── 429, Retry-After: to the minute's end ── 20 more ── 418, banned
    the n-th ban lasts         2 min, 4 min, 8 min … 3 days
"""

from collections import deque
from dataclasses import dataclass, field

from klinestream.market.events import SECOND_MS
from klinestream.standin.intervals import DAY_MS, MINUTE_MS

# Addresses are told apart, so somebody could fill the memory with them: the ones seen longest ago are forgotten.
ADDRESSES_MOST = 1024
BAN_FIRST_MS = 2 * MINUTE_MS
BAN_MOST_MS = 3 * DAY_MS


@dataclass(frozen=True, slots=True)
class Limits:
    """The exchange's limits an address, each adjustable."""

    weight_per_minute: int = 6000
    refusals_before_ban: int = 20
    connections: int = 300
    connections_ms: int = 5 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass (`status` 200), what weight its address has used, and how long to wait otherwise."""

    status: int
    used: int
    retry_after_s: int = 0
    banned_until_ms: int = 0


@dataclass(slots=True)
class _Account:
    minute: int = 0
    used: int = 0
    refusals: int = 0
    bans: int = 0
    banned_until_ms: int = 0
    attempts_ms: deque[int] = field(default_factory=deque)


class Accounts:
    """Weight, bans and connection attempts by address."""

    def __init__(self, limits: Limits) -> None:
        """Begin with no account."""
        self._limits = limits
        self._accounts: dict[str, _Account] = {}

    def charge(self, address: str, weight: int, now_ms: int) -> Verdict:
        """Count a request. A refused one counts too, as at the exchange."""
        account = self._account(address)
        if account.minute != now_ms // MINUTE_MS:
            account.minute, account.used, account.refusals = now_ms // MINUTE_MS, 0, 0
        account.used += weight
        if now_ms < account.banned_until_ms:
            return self._banned(account, now_ms)
        if account.used <= self._limits.weight_per_minute:
            return Verdict(200, account.used)
        account.refusals += 1
        if account.refusals <= self._limits.refusals_before_ban:
            return Verdict(429, account.used, _seconds((account.minute + 1) * MINUTE_MS - now_ms))
        account.banned_until_ms = now_ms + min(BAN_FIRST_MS << account.bans, BAN_MOST_MS)
        account.bans += 1
        return self._banned(account, now_ms)

    def connect(self, address: str, now_ms: int) -> bool:
        """Count an attempt to open a websocket, and say whether it may pass."""
        attempts = self._account(address).attempts_ms
        while attempts and attempts[0] <= now_ms - self._limits.connections_ms:
            attempts.popleft()
        if len(attempts) >= self._limits.connections:
            return False
        attempts.append(now_ms)
        return True

    def _account(self, address: str) -> _Account:
        account = self._accounts.pop(address, None) or _Account()
        self._accounts[address] = account
        if len(self._accounts) > ADDRESSES_MOST:
            del self._accounts[next(iter(self._accounts))]
        return account

    @staticmethod
    def _banned(account: _Account, now_ms: int) -> Verdict:
        return Verdict(418, account.used, _seconds(account.banned_until_ms - now_ms), account.banned_until_ms)


def _seconds(span_ms: int) -> int:
    """Rounded up: whoever waits that long is let in."""
    return -(-span_ms // SECOND_MS)
