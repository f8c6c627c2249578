"""Idempotency keys as the topic `crypto_ingest_keys` tells of them. Pure; the same in each replica that has read as far.

```
 crypto_ingest_keys   claimed K by A ─── claimed K by B ─── done K by A      the first claim of a key counts, whoever made it
```

A replica publishes its claim, reads the topic up to it, and only then knows whose is the first. So two bodies under one key are told
apart before anything of the second is published, at any two replicas and after any restart.
"""

from collections import OrderedDict
from dataclasses import dataclass

from klinestream.market.events import IngestKey, KeyState
from klinestream.market.topics import INGEST_KEYS

KEPT_MS = INGEST_KEYS.retention_ms
"""A key holds for so long after its first claim."""
KEYS_MOST = 200_000
ANSWERS_MOST_BYTES = 64 << 20
"""All answers together; of more keys or bytes the oldest are forgotten first."""


@dataclass(slots=True)
class Held:
    """What is known of a key: its first claim, and the answer once there is one."""

    digest: str
    claim: str
    claimed_ms: int
    answer: str = ""


class Keys:
    """All keys that hold.

    >>> keys = Keys()
    >>> keys.take(IngestKey("ingest:k", KeyState.CLAIMED, "first", "a1", "", 1000))
    >>> keys.take(IngestKey("ingest:k", KeyState.CLAIMED, "second", "b1", "", 1001))
    >>> keys.held("ingest:k", 2000)
    Held(digest='first', claim='a1', claimed_ms=1000, answer='')
    """

    def __init__(self, keys_most: int = KEYS_MOST, answers_most_bytes: int = ANSWERS_MOST_BYTES) -> None:
        """None is known."""
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._keys_most = keys_most
        self._bytes_most = answers_most_bytes
        self._bytes = 0

    def __len__(self) -> int:
        """How many are held."""
        return len(self._held)

    def take(self, told: IngestKey) -> None:
        """The next record of the topic."""
        held = self.held(told.key, told.time_ms)
        if told.state == KeyState.CLAIMED:
            if held is None:
                self._forget(told.key)
                self._held[told.key] = Held(told.digest, told.claim, told.time_ms)
        elif held is not None and held.digest == told.digest and not held.answer:
            held.answer = told.answer
            self._bytes += len(told.answer)
        while len(self._held) > self._keys_most or self._bytes > self._bytes_most:
            self._forget(next(iter(self._held)))

    def held(self, key: str, now_ms: int) -> Held | None:
        """What is known of a key that still holds."""
        found = self._held.get(key)
        return None if found is None or now_ms - found.claimed_ms >= KEPT_MS else found

    def _forget(self, key: str) -> None:
        gone = self._held.pop(key, None)
        if gone is not None:
            self._bytes -= len(gone.answer)
