"""The topic `crypto_watched_symbols`: what servers' clients look at, written by servers, followed by whoever works through symbols.

 server a  BTCUSDT, ETHUSDT ──┬── again after 60 s ──┬─ …          counts for three minutes, then no more
 server b        SOLUSDT ─────┴─ none left: withdrawn                counts until then

It only decides what comes first. So nobody waits for it, and whoever can't read or write it goes on without.
"""

import heapq
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from queue import SimpleQueue

import structlog

from klinestream.market.codec import decode_event, encode_event, is_symbol
from klinestream.market.errors import BrokerError, KlinestreamError, RecordError
from klinestream.market.events import SymbolsWatched
from klinestream.market.topics import PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION, WATCHED
from klinestream.runtime.kafka import Publisher, Record, open_publisher, open_reader
from klinestream.runtime.sections import KafkaConfig

log = structlog.get_logger()

CLIENT_ID = "klinestream-watched"
COUNTS_MS = 180_000
"""For how long a server's record counts: two of its repetitions may get lost."""
SERVERS_MOST = 200
SYMBOLS_MOST = 4_000
"""Of one server: more than the exchange lists."""
_AGAIN_S = 60.0
_APART_S = 1.0
_SERVER_CHARS_MOST = 200
_CONNECT_S = 2.0  # one attempt; the threads themselves go on trying
_RETRY_S = 5.0
_WRITE_S = 5.0
_WITHDRAW_S = 0.5  # what a server that ends has left for it
_POLL_S = 0.5


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Watched:
    """The symbols that somebody looks at, as far as that counts now. For any number of threads."""

    def __init__(self, always: Iterable[str] = (), now_ms: Callable[[], int] = _wall_ms) -> None:
        """`always` are symbols that count whoever looks at them; `now_ms` is the wall clock."""
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._always = frozenset(always)
        self._servers: dict[str, tuple[int, frozenset[str]]] = {}
        self._joined = self._always
        self._joined_until_ms: float = float("inf")
        self.passed_over = 0
        """Records that could not be used."""

    def symbols(self) -> frozenset[str]:
        """All of them; the same object until it changes."""
        with self._lock:
            now_ms = self._now_ms()
            if now_ms >= self._joined_until_ms:
                self._join(now_ms)
            return self._joined

    def count_always(self, symbols: Iterable[str]) -> None:
        """Let these count from now on whoever looks at them, in place of those before."""
        with self._lock:
            self._always = frozenset(symbols)
            self._join(self._now_ms())

    def take(self, record: Record) -> None:
        """Take a record of the topic; one that can't be used is passed over, counted and logged."""
        with self._lock:
            now_ms = self._now_ms()
            try:
                self._take(record, now_ms)
            except RecordError as error:
                self.passed_over += 1
                log.warning("record of watched symbols passed over", reason=str(error), topic=record.topic, offset=record.offset)
            self._join(now_ms)

    def _take(self, record: Record, now_ms: int) -> None:
        try:
            server = (record.key or b"").decode()
        except UnicodeDecodeError:
            server = ""
        if not 0 < len(server) <= _SERVER_CHARS_MOST:
            raise RecordError(f"key: expected a server's name, up to {_SERVER_CHARS_MOST} characters")
        if record.value is None:
            self._servers.pop(server, None)
            return
        said = decode_event(SymbolsWatched, record.value)
        if said.server != server:
            raise RecordError("server: expected the record's key")
        # A server whose clock is ahead counts no longer than others.
        until_ms = min(said.time_ms, now_ms) + COUNTS_MS
        if until_ms <= now_ms:
            self._servers.pop(server, None)
            return
        self._drop_old(now_ms)
        if server not in self._servers and len(self._servers) >= SERVERS_MOST:
            raise RecordError(f"expected at most {SERVERS_MOST} servers at a time")
        self._servers[server] = until_ms, frozenset([name for name in said.symbols if is_symbol(name)][:SYMBOLS_MOST])

    def _drop_old(self, now_ms: int) -> None:
        for server in [server for server, (until_ms, _) in self._servers.items() if until_ms <= now_ms]:
            del self._servers[server]

    def _join(self, now_ms: int) -> None:
        self._drop_old(now_ms)
        joined = self._always.union(*(symbols for _, symbols in self._servers.values()))
        if joined != self._joined:
            self._joined = joined
        self._joined_until_ms = min((until_ms for until_ms, _ in self._servers.values()), default=float("inf"))


class WatchedFollower(threading.Thread):
    """Reads the topic into a `Watched` until `stop`. A broker that is away is tried again; what was read counts on till it is too old.

    An error that nothing mends goes to `failures` and ends it.
    """

    def __init__(
        self,
        config: KafkaConfig,
        watched: Watched,
        failures: "SimpleQueue[Exception]",
        *,
        topic: str = WATCHED.name,
        now_ms: Callable[[], int] = _wall_ms,
    ) -> None:
        """Nothing is read before `start`."""
        super().__init__(name="watched", daemon=True)
        self._config = config.model_copy(update={"connect_timeout_s": _CONNECT_S})
        self._watched = watched
        self._failures = failures
        self._topic = topic
        self._now_ms = now_ms
        self._stopped = threading.Event()
        self._fault = ""

    def stop(self) -> None:
        """Ask it to end: within half a second, unless it waits for a broker."""
        self._stopped.set()

    def run(self) -> None:
        """The thread's work."""
        try:
            while not self._stopped.is_set():
                try:
                    self._follow()
                except BrokerError as error:
                    self._trouble(error)
                    self._stopped.wait(_RETRY_S)
        except Exception as error:
            self._failures.put(error)

    def _follow(self) -> None:
        with closing(open_reader(self._config, CLIENT_ID)) as reader:
            # What is older doesn't count.
            starts = reader.offsets_at(self._topic, self._now_ms() - COUNTS_MS)
            reader.assign({(self._topic, partition): offset for partition, offset in starts.items()})
            self._fault = ""
            while not self._stopped.is_set():
                for record in reader.poll(_POLL_S):
                    self._watched.take(record)

    def _trouble(self, error: BrokerError) -> None:
        if str(error) != self._fault:
            log.warning("watched symbols not followed, trying again", reason=str(error), wait_s=_RETRY_S)
        self._fault = str(error)


class WatchedWriter(threading.Thread):
    """Says what a server's clients look at, until `stop`: when it changes, at most once a second, and every minute while anyone looks.

    Whoever tells it never waits for the broker.
    """

    def __init__(self, config: KafkaConfig, server: str, *, topic: str = WATCHED.name, now_ms: Callable[[], int] = _wall_ms) -> None:
        """`server` is the name that the records bear. Connects when there is something to say."""
        super().__init__(name="watched", daemon=True)
        self._config = config.model_copy(update={"connect_timeout_s": _CONNECT_S})
        self._server = server
        self._topic = topic
        self._now_ms = now_ms
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._followers: Mapping[str, int] = {}
        self._publisher: Publisher | None = None
        self._said: tuple[str, ...] = ()
        self._again_s = float("-inf")
        self._fault = ""

    def tell(self, followers: Mapping[str, int]) -> None:
        """Symbol, or whatever clients asked for → how many look at it now; never changed afterwards. Returns at once."""
        self._followers = followers
        self._changed.set()

    def stop(self, timeout_s: float) -> None:
        """Withdraw what was said, if the broker takes that soon, and end within `timeout_s`."""
        self._stopped.set()
        self._changed.set()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        """The thread's work."""
        while not self._stopped.is_set():
            self._changed.wait(min(_AGAIN_S, max(0.0, self._again_s - time.monotonic())) if self._said else _AGAIN_S)
            self._changed.clear()
            if self._stopped.is_set():
                break
            symbols = most_followed(self._followers)
            if symbols == self._said and (not symbols or time.monotonic() < self._again_s):
                continue
            if self._say(symbols, _WRITE_S):
                self._said, self._again_s = symbols, time.monotonic() + _AGAIN_S
                self._stopped.wait(_APART_S)
            else:
                self._changed.set()
                self._stopped.wait(_RETRY_S)
        if self._said and not self._fault:
            self._say((), _WITHDRAW_S)
        self._disconnect()

    def _say(self, symbols: tuple[str, ...], timeout_s: float) -> bool:
        now_ms = self._now_ms()
        value = encode_event(SymbolsWatched(self._server, symbols, now_ms)) if symbols else None
        headers = ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % now_ms))
        try:
            if self._publisher is None:
                self._publisher = open_publisher(self._config, CLIENT_ID)
            self._publisher.publish(Record(self._topic, self._server.encode(), value, now_ms, headers))
            self._publisher.flush(timeout_s)
        except KlinestreamError as error:
            if str(error) != self._fault:
                log.warning("watched symbols not published, trying again", reason=str(error), wait_s=_RETRY_S)
            self._fault = str(error)
            self._disconnect()
            return False
        self._fault = ""
        return True

    def _disconnect(self) -> None:
        if self._publisher is not None:
            publisher, self._publisher = self._publisher, None
            with suppress(KlinestreamError):
                publisher.close(_WITHDRAW_S)


def most_followed(followers: Mapping[str, int]) -> tuple[str, ...]:
    """The names that can be symbols, sorted; of very many those that most look at.

    >>> most_followed({"ETHUSDT": 1, "BTCUSDT": 3, "two words": 9, "*": 2})
    ('BTCUSDT', 'ETHUSDT')
    """
    names = [name for name in followers if is_symbol(name)]
    if len(names) > SYMBOLS_MOST:
        names = heapq.nlargest(SYMBOLS_MOST, names, key=lambda name: (followers[name], name))
    return tuple(sorted(names))
