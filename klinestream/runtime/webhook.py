"""Messages posted to a web address: signed, tried again with growing waits, from a bounded queue with a thread of its own.

    put ─► [ waiting, the oldest dropped where there is no room ] ─► post, one after the other ─► settled

An address may hold a token. Nothing here says more of it than its scheme and host, in logs, errors and records alike.
"""

import enum
import hashlib
import hmac
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlsplit

import httpx
import orjson
import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_when_event_set
from tenacity.nap import sleep_using_event

log = structlog.get_logger()

KEY_HEADER = "Idempotency-Key"
SIGNATURE_HEADER = "X-Klinestream-Signature"
_TIMEOUT_S = 10.0
_FIRST_WAIT_S = 0.5
_WAIT_MOST_S = 30.0
_ANSWER_MOST = 65_536  # bytes: what it says is of no interest, and reading it to its end keeps the connection
_AGAIN = {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY, httpx.codes.TOO_MANY_REQUESTS}


class Kind(enum.StrEnum):
    """What a message tells of."""

    SIGNAL = "signal"
    GAP = "gap"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to tell. `event` is JSON; `place` its record's topic, partition and offset, if it is one."""

    key: str
    kind: Kind
    event: bytes
    place: tuple[str, int, int] | None = None
    until_ms: int | None = None
    """Of no use after that time."""

    def body(self, sent_ms: int) -> bytes:
        """What is posted: the same for each attempt.

        >>> Message("x", Kind.GAP, b'{"gap":"BTCUSDT:1-2"}').body(7)
        b'{"kind":"gap","event":{"gap":"BTCUSDT:1-2"},"sent_ms":7}'
        """
        return orjson.dumps({"kind": self.kind, "event": orjson.Fragment(self.event), "sent_ms": sent_ms})


class Fate(enum.Enum):
    """What became of a message."""

    POSTED = "posted"
    FAILED = "failed"
    EXPIRED = "too old"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Settled:
    """A message that nothing more happens to. `reason`: why it was not posted."""

    message: Message
    fate: Fate
    reason: str = ""


class _PassingError(Exception):
    """An attempt failed, and the next one may not. `wait_s` is what the receiver asks for."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def host_of(url: str) -> str:
    """Scheme and host of an address, all that may be shown of it.

    >>> host_of("https://user:pass@hooks.example/T0/secret?token=1")
    'https://hooks.example'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"


def signature(secret: str, body: bytes) -> str:
    """The value of `X-Klinestream-Signature`: HMAC-SHA256 over the body as it was sent (RFC 2104), in hex."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


class Webhook:
    """Posts one message at a time. Not for several threads at once."""

    def __init__(
        self,
        url: str,
        attempts: int,
        stopping: threading.Event,
        *,
        secret: str = "",
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        first_wait_s: float = _FIRST_WAIT_S,
        failed_once: Callable[[], None] = lambda: None,
    ) -> None:
        """Connects with the first message. `stopping` ends all waits; `failed_once` is told of each attempt that failed."""
        self._url = url
        self._shown = host_of(url)
        self._secret = secret
        self._attempts = attempts
        self._stopping = stopping
        self._now_ms = now_ms
        self._first_wait_s = first_wait_s
        self._failed_once = failed_once
        # The library tells each request with its whole address, and each answer's headers, which may repeat it.
        for library in ("httpx", "httpcore"):
            logging.getLogger(library).setLevel(logging.WARNING)
        self._client = httpx.Client(timeout=_TIMEOUT_S)

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def post(self, message: Message) -> Settled | None:
        """Post, and try again what may pass; None where the end came first. Never raises what a receiver can cause."""
        now_ms = self._now_ms()
        if message.until_ms is not None and now_ms > message.until_ms:
            return Settled(message, Fate.EXPIRED, "too old")
        body = message.body(now_ms)
        headers = {"Content-Type": "application/json", KEY_HEADER: quote(message.key, safe=":-_.")}
        if self._secret:
            headers[SIGNATURE_HEADER] = signature(self._secret, body)
        retrying = Retrying(
            retry=retry_if_exception_type(_PassingError),
            stop=stop_after_attempt(self._attempts) | stop_when_event_set(self._stopping),
            wait=self._wait_s,
            sleep=sleep_using_event(self._stopping),
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            refusal = retrying(self._attempt, body, headers)
        except _PassingError as error:
            if self._stopping.is_set():
                return None
            return Settled(message, Fate.FAILED, f"{self._shown}: {error}, {self._attempts} attempt(s)")
        return Settled(message, Fate.FAILED, f"{self._shown}: {refusal}") if refusal else Settled(message, Fate.POSTED)

    def _attempt(self, body: bytes, headers: dict[str, str]) -> str:
        """Why it was refused for good; empty if it was taken. Raises _PassingError where another attempt makes sense."""
        try:
            with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
                status, asked_s = answer.status_code, _retry_after_s(answer, self._now_ms())
                _read_away(answer)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._failed_once()
            # Its text may name the address.
            raise _PassingError(f"no answer ({type(error).__name__})") from None
        if httpx.codes.is_success(status):
            return ""
        self._failed_once()
        reason = f"expected a status of 2xx, got {status}"
        if status in _AGAIN or httpx.codes.is_server_error(status):
            raise _PassingError(reason, asked_s)
        return reason

    def _wait_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        bound_s = min(_WAIT_MOST_S, self._first_wait_s * 2.0 ** (state.attempt_number - 1))
        wait_s = bound_s * random.uniform(0.5, 1.0)  # noqa: S311  # not a secret
        return min(max(wait_s, error.wait_s if isinstance(error, _PassingError) else 0.0), _WAIT_MOST_S)

    def _tell(self, state: RetryCallState) -> None:
        reason = str(state.outcome and state.outcome.exception())
        log.warning("message not taken, trying again", receiver=self._shown, reason=reason, again_in_s=round(state.upcoming_sleep, 1))


class Outbox:
    """Messages that wait, and the thread that posts them in their order.

    `put` never waits: where there is no room the oldest message is dropped. What became of each comes out of `settled`,
    once, whatever that was; what an end leaves undone does not come out. For one other thread.
    """

    def __init__(self, post: Callable[[Message], Settled | None], stopping: threading.Event, most: int = 1000) -> None:
        """`post` returns what became of a message, None for nothing yet because `stopping` is set. Starts the thread."""
        self._post = post
        self._stopping = stopping
        self._most = most
        self._waiting: deque[Message] = deque()
        self._settled: deque[Settled] = deque()
        self._changed = threading.Condition()
        self._fault: BaseException | None = None
        # A daemon: a receiver that takes its time must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many messages wait."""
        return len(self._waiting)

    def put(self, message: Message) -> None:
        """Queue a message."""
        with self._changed:
            if len(self._waiting) >= self._most:
                self._settled.append(Settled(self._waiting.popleft(), Fate.DROPPED, "too many messages waited"))
            self._waiting.append(message)
            self._changed.notify()

    def settled(self) -> list[Settled]:
        """What was settled since the last look. Raises whatever ended the thread."""
        with self._changed:
            if self._fault is not None:
                raise self._fault
            found = list(self._settled)
            self._settled.clear()
        return found

    def close(self, timeout_s: float) -> None:
        """Begin no further attempt, and wait up to `timeout_s` for one that is under way."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while (message := self._next()) is not None:
                result = self._post(message)
                if result is not None:
                    with self._changed:
                        self._settled.append(result)
        except BaseException as fault:  # handed to the other thread, which ends by it
            self._fault = fault

    def _next(self) -> Message | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._stopping.is_set())
            return None if self._stopping.is_set() else self._waiting.popleft()


def _read_away(answer: httpx.Response) -> None:
    left, until_s = _ANSWER_MOST, time.monotonic() + _TIMEOUT_S
    try:
        for piece in answer.iter_raw():
            left -= len(piece)
            if left < 0 or time.monotonic() > until_s:
                return
    except httpx.HTTPError:
        return  # its status said it all


def _retry_after_s(answer: httpx.Response, now_ms: int) -> float:
    """What the receiver asks for, as seconds or as a date; 0 for nothing that can be understood."""
    text = answer.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_ms / 1000)
    except (ValueError, OverflowError):
        return 0.0
