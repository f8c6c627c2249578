"""Tokens, and the sessions that browsers get for them. Pure.

A session is what a cookie holds: its end, and the end's signature with a key that is derived from the token. So every server with the
same tokens accepts it, none has to remember it, and it ends when its token is taken away.

    1790604800.5f1c…e2
    ends at    HMAC-SHA256
"""

import hmac
import re
from collections.abc import Sequence
from hashlib import sha256

SESSION_S = 7 * 86_400
_PURPOSE = b"klinestream session 1"
_SESSION = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})")


class Tokens:
    """The tokens of a server; without any everybody may read.

    >>> tokens = Tokens(["a long enough one"])
    >>> tokens.accept("a long enough one"), tokens.accept("another")
    (True, False)
    >>> session = tokens.session("a long enough one", now_s=1_790_000_000)
    >>> tokens.continue_session(session, now_s=1_790_000_001), tokens.continue_session(session, now_s=1_790_604_800)
    (True, False)
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        """`tokens` are strong enough: the configuration sees to it."""
        self._digests = [sha256(token.encode()).digest() for token in tokens]
        self._keys = [_key(token) for token in tokens]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._digests)

    def accept(self, token: str) -> bool:
        """Whether it is one of them; takes as long whichever it is, and if it is none."""
        digest = sha256(token.encode(errors="replace")).digest()
        # All are compared: `any` would end at the first that fits.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0

    def session(self, token: str, now_s: int) -> str:
        """A session for who has shown this token."""
        end = str(now_s + SESSION_S)
        return f"{end}.{_signature(_key(token), end)}"

    def continue_session(self, session: str, now_s: int) -> bool:
        """Whether it was given for one of these tokens, and hasn't ended."""
        found = _SESSION.fullmatch(session)
        if found is None or int(found[1]) <= now_s:
            return False
        return sum(hmac.compare_digest(found[2], _signature(key, found[1])) for key in self._keys) > 0


def _key(token: str) -> bytes:
    return hmac.digest(token.encode(errors="replace"), _PURPOSE, "sha256")


def _signature(key: bytes, end: str) -> str:
    return hmac.digest(key, end.encode(), "sha256").hex()
