"""How many wrong tokens an address may still show. Pure.

The same wrong token again is no further guess: a client with an old token harms nobody who shares its address.
"""

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

from klinestream.runtime.access.addresses import ADDRESSES_MOST

AT_ONCE = 10
ANOTHER_EVERY_S = 6.0


@dataclass(slots=True)
class _Guesser:
    left: float
    at_s: float
    last: bytes = b""


class Guesses:
    """Wrong tokens by address. The address that was silent for longest is forgotten first.

    >>> guesses = Guesses(at_once=2)
    >>> [guesses.wait_s("here", token, 0.0) for token in ("one", "two", "three")]
    [0, 0, 0]
    >>> [guesses.wrong("here", token, 0.0) for token in ("one", "one", "two")]
    [True, False, True]
    >>> [guesses.wait_s("here", token, 0.0) for token in ("one", "two", "three")]
    [6, 0, 6]
    """

    def __init__(self, at_once: int = AT_ONCE, another_every_s: float = ANOTHER_EVERY_S, addresses_most: int = ADDRESSES_MOST) -> None:
        """`at_once` at first and at most, and another one in so many seconds."""
        self._at_once = at_once
        self._every_s = another_every_s
        self._most = addresses_most
        self._salt = secrets.token_bytes(16)
        self._guessers: OrderedDict[str, _Guesser] = OrderedDict()

    def wait_s(self, address: str, token: str, now_s: float) -> int:
        """How long the address has to wait before it may show this token, in whole seconds; 0 if it may now."""
        guesser = self._guessers.get(address)
        if guesser is None or guesser.last == self._digest(token):
            return 0
        self._refill(guesser, now_s)
        return 0 if guesser.left >= 1 else -int(-(1 - guesser.left) * self._every_s // 1)

    def wrong(self, address: str, token: str, now_s: float) -> bool:
        """It was a wrong one; whether it is another than the one before."""
        guesser = self._guessers.pop(address, None) or _Guesser(self._at_once, now_s)
        self._guessers[address] = guesser
        if len(self._guessers) > self._most:
            self._guessers.popitem(last=False)
        digest = self._digest(token)
        if digest == guesser.last:
            return False
        self._refill(guesser, now_s)
        guesser.left -= 1
        guesser.last = digest
        return True

    def _refill(self, guesser: _Guesser, now_s: float) -> None:
        guesser.left = min(self._at_once, guesser.left + (now_s - guesser.at_s) / self._every_s)
        guesser.at_s = now_s

    def _digest(self, token: str) -> bytes:
        """Not the token itself: wrong ones are mostly right ones elsewhere, or nearly right."""
        return blake2b(token.encode(errors="replace"), key=self._salt, digest_size=16).digest()
