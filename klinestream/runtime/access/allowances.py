"""How much a client may send, and so many of them by address. Pure."""

from collections import OrderedDict

from klinestream.runtime.access.addresses import ADDRESSES_MOST


class Allowance:
    """How much a client may still send: `rate` more each second, `2 * rate` at most. Pure.

    >>> allowance = Allowance(1.0, now_s=0.0)
    >>> [allowance.spend(now_s) for now_s in (0.0, 0.0, 0.0, 1.0)]
    [True, True, False, True]
    """

    def __init__(self, rate: float, now_s: float) -> None:
        """Start with the most that may be left."""
        self._rate = rate
        self._most = max(1.0, 2 * rate)
        self._left = self._most
        self._at_s = now_s

    def spend(self, now_s: float, amount: int = 1) -> bool:
        """Take one, or as much as is said; False, and nothing taken, if that isn't left."""
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._left < amount:
            return False
        self._left -= amount
        return True


class Allowances:
    """How many requests each address may still make. The address that was silent for longest is forgotten first. Pure.

    >>> allowances = Allowances(1.0)
    >>> [allowances.spend(address, 0.0) for address in ("a", "a", "a", "b")]
    [True, True, False, True]
    """

    def __init__(self, per_s: float, addresses_most: int = ADDRESSES_MOST) -> None:
        """`per_s` more each second, twice as many at most."""
        self._per_s = per_s
        self._most = addresses_most
        self._left: OrderedDict[str, Allowance] = OrderedDict()

    def spend(self, address: str, now_s: float, amount: int = 1) -> bool:
        """Take one, or as much as is said; False, and nothing taken, if that isn't left."""
        allowance = self._left.pop(address, None) or Allowance(self._per_s, now_s)
        self._left[address] = allowance
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return allowance.spend(now_s, amount)
