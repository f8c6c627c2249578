"""Faults on demand: what can be asked for, what is under way, and what it does to frames and answers.

Three kinds. Faults of connections act once, on the connections that are open and carry a matching stream: `drop`,
`silence`, `shutdown`. Faults of frames last, for every connection: `lose`, `repeat`, `reorder`, `garbage`. Faults of
REST last as well: `refuse`, `withhold`, `slow`. Patterns are shell-like: `btcusdt@*` is a symbol, `*@kline_1s` a kind of stream.
"""

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from klinestream.market.errors import ConfigError, KlinestreamError
from klinestream.market.events import SECOND_MS
from klinestream.standin.frames import Frame
from klinestream.standin.garbage import Form, garble

ACTIVE_MOST = 100

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Fault(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class _OfConnections(_Fault):
    streams: str = "*"
    """Only connections that carry a stream like this."""
    connection: int | None = None
    """Only this connection, by its number in the status."""


class Drop(_OfConnections):
    """Break connections off, without a close frame."""

    kind: Literal["drop"] = "drop"


class Silence(_OfConnections):
    """Keep connections open and send nothing on them, pings and replies included; what falls in that time is lost."""

    kind: Literal["silence"] = "silence"
    seconds: Seconds = 10
    """For how long."""


class Shutdown(_OfConnections):
    """Announce serverShutdown, then close."""

    kind: Literal["shutdown"] = "shutdown"
    seconds: Seconds = 10
    """From the announcement to the close."""


class _Lasting(_Fault):
    seconds: Seconds = 10
    """For how long."""


class _OfFrames(_Lasting):
    streams: str = "*"
    """Only frames of a stream like this."""


class Lose(_OfFrames):
    """Don't send frames."""

    kind: Literal["lose"] = "lose"


class Repeat(_OfFrames):
    """Send each frame several times."""

    kind: Literal["repeat"] = "repeat"
    times: Annotated[int, Field(ge=2, le=10)] = 2
    """How often."""


class Reorder(_OfFrames):
    """Send each two frames of a stream the wrong way round."""

    kind: Literal["reorder"] = "reorder"


class Garbage(_OfFrames):
    """Send a broken copy before each frame."""

    kind: Literal["garbage"] = "garbage"
    form: Form = Form.MALFORMED
    """How it is broken."""
    replace: bool = False
    """Send the broken one alone."""


class Refuse(_Lasting):
    """Answer every REST request with an error; 403 and 451 refuse websockets too."""

    kind: Literal["refuse"] = "refuse"
    status: Literal[403, 418, 429, 451, 503] = 429
    """HTTP status."""


class Withhold(_Lasting):
    """Leave klines and trades out of REST answers, as if the exchange didn't have them (yet)."""

    kind: Literal["withhold"] = "withhold"
    symbols: str = "*"
    """Only of symbols like this, upper case."""
    from_ms: int = 0
    """Only what opened or happened from then on."""
    to_ms: int = 2**62
    """Only what opened or happened before then."""


class Slow(_Lasting):
    """Answer REST requests late."""

    kind: Literal["slow"] = "slow"
    delay_s: Annotated[float, Field(gt=0, le=600)] = 5
    """How late."""


ConnectionFault = Drop | Silence | Shutdown
FrameFault = Lose | Repeat | Reorder | Garbage
RestFault = Refuse | Withhold | Slow
Fault = ConnectionFault | FrameFault | RestFault
KINDS: dict[str, type[Fault]] = {
    kind.model_fields["kind"].default: kind for kind in (Drop, Silence, Shutdown, Lose, Repeat, Reorder, Garbage, Refuse, Withhold, Slow)
}
_ADAPTER: TypeAdapter[Fault] = TypeAdapter(Annotated[Fault, Field(discriminator="kind")])

_F = TypeVar("_F", bound=FrameFault | RestFault)


@dataclass(frozen=True, slots=True)
class Active:
    """A fault under way."""

    fault: FrameFault | RestFault
    until_ms: int


class Faults:
    """The lasting faults under way."""

    def __init__(self) -> None:
        """Begin with none."""
        self._active: list[Active] = []

    def start(self, fault: FrameFault | RestFault, now_ms: int) -> Active:
        """Begin a lasting fault. Raises KlinestreamError where there are too many."""
        if len(self.active(now_ms)) >= ACTIVE_MOST:
            raise KlinestreamError(
                f"expected at most {ACTIVE_MOST} faults at once, and there are as many: clear them, or wait for their end"
            )
        started = Active(fault, now_ms + round(fault.seconds * SECOND_MS))
        self._active.append(started)
        return started

    def clear(self) -> None:
        """End all of them."""
        self._active.clear()

    def active(self, now_ms: int) -> Sequence[Active]:
        """Those under way; the ones that are over are forgotten."""
        if any(active.until_ms <= now_ms for active in self._active):
            self._active = [active for active in self._active if active.until_ms > now_ms]
        return self._active

    def of(self, kind: type[_F], now_ms: int) -> Iterator[_F]:
        """Those of a kind under way."""
        return (active.fault for active in self.active(now_ms) if isinstance(active.fault, kind))

    def distort(self, frames: Sequence[Frame], held: dict[str, Frame], now_ms: int) -> Sequence[Frame]:
        """What one connection gets in place of `frames`; `held` keeps what it owes that connection, by stream."""
        active = [active.fault for active in self.active(now_ms) if isinstance(active.fault, FrameFault)]
        if not active and not held:
            return frames
        reordered = [fault for fault in active if isinstance(fault, Reorder)]
        owed = [held.pop(name) for name in list(held) if not _any_like(name, reordered)]
        sent: Iterable[Frame] = [*owed, *frames]
        for fault in active:
            sent = [out for frame in sent for out in (_apply(fault, frame, held) if like(frame.stream.name, fault.streams) else (frame,))]
        return list(sent)

    def withheld(self, symbol: str, time_ms: int, now_ms: int) -> bool:
        """Whether REST pretends not to have what happened to a symbol at that time."""
        return any(like(symbol, f.symbols) and f.from_ms <= time_ms < f.to_ms for f in self.of(Withhold, now_ms))


def read(values: object) -> Fault:
    """A fault from its fields, `kind` among them; text is taken for numbers. Raises ConfigError, which names what there is."""
    kind = values.get("kind") if isinstance(values, dict) else None
    if kind not in KINDS:
        raise ConfigError(f"expected a kind of fault ({', '.join(KINDS)}), got {kind!r}")
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        wrong = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
        settings = ", ".join(name for name in KINDS[kind].model_fields if name != "kind")
        raise ConfigError(f"expected settings of the fault {kind} ({settings}): {wrong}") from None


def like(name: str, pattern: str) -> bool:
    """Whether a name fits a shell-like pattern."""
    return fnmatch.fnmatchcase(name, pattern)


def _any_like(name: str, faults: Iterable[FrameFault]) -> bool:
    return any(like(name, fault.streams) for fault in faults)


def _apply(fault: FrameFault, frame: Frame, held: dict[str, Frame]) -> Sequence[Frame]:
    match fault:
        case Lose():
            return ()
        case Repeat():
            return (frame,) * fault.times
        case Garbage():
            broken = Frame(frame.stream, lambda unit: garble(frame.payload(unit), fault.form))
            return (broken,) if fault.replace else (broken, frame)
        case Reorder():
            earlier = held.pop(frame.stream.name, None)
            if earlier is not None:
                return frame, earlier
            held[frame.stream.name] = frame
            return ()
