"""Clients of version 2 by what they follow: whoever follows the same in the same encoding gets the same bytes. Pure.

crypto_… BTCUSDT ─┬─► audience: BTCUSDT, ETHUSDT as JSON ─► 900 clients, one message made
                  └─► audience: BTCUSDT as MessagePack   ─► 1 client, one message made
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from server.client import Audience, Client, Follower
from server.outbox import Moment
from server.stream.messages import Cursor, Part
from server.stream.outbox import Tick
from server.stream.series import Series


class Audiences:
    """All that have a client. A client is in one of them, or in none while it follows nothing."""

    def __init__(self) -> None:
        """Start with none."""
        self._known: dict[tuple[str, frozenset[Series]], Audience] = {}
        self._of: dict[Series, set[Audience]] = {}

    def __contains__(self, series: Series) -> bool:
        """Whether anybody follows it."""
        return series in self._of

    def place(self, client: Client, follower: Follower) -> None:
        """Put a client where it belongs, after what it follows has changed."""
        series = frozenset(follower.series)
        if follower.audience is not None:
            if follower.audience.series == series:
                return
            self._leave(client, follower.audience)
        follower.audience = self._audience(follower, series) if series else None
        if follower.audience is not None:
            follower.audience.clients.add(client)

    def ticks(self, parts: Iterable[Part], cursor: Cursor, moment: Moment) -> Iterator[tuple[Audience, Tick]]:
        """What each audience gets of these parts; those that get nothing are left out."""
        found: defaultdict[Audience, list[Part]] = defaultdict(list)
        for part in parts:
            for audience in self._of.get(part.series, ()):
                found[audience].append(part)
        for audience, theirs in found.items():
            yield audience, Tick(theirs, cursor, moment)

    def _audience(self, follower: Follower, series: frozenset[Series]) -> Audience:
        key = follower.encoding.name, series
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Audience(follower.encoding, series)
            for each in series:
                self._of.setdefault(each, set()).add(found)
        return found

    def _leave(self, client: Client, audience: Audience) -> None:
        audience.clients.discard(client)
        if audience.clients:
            return
        del self._known[audience.encoding.name, audience.series]
        for each in audience.series:
            self._of[each].discard(audience)
            if not self._of[each]:
                del self._of[each]
