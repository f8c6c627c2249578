"""Whether the server can be trusted with a client right now. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FeedState:
    """What the feed knows of itself; `fault` says why the broker can't be read, if so."""

    caught_up: bool = False
    fault: str | None = None


def reasons_not_ready(state: FeedState, newest_end_ms: int | None, now_ms: int, stale_after_s: float) -> list[str]:
    """Why the server isn't ready, for a person; empty if it is."""
    reasons = []
    if state.fault is not None:
        reasons.append(f"broker: {state.fault}")
    if not state.caught_up:
        reasons.append("reader: not caught up with the topic yet")
    if newest_end_ms is None:
        reasons.append("data: no window has come yet")
    elif now_ms - newest_end_ms > stale_after_s * 1000:
        age_s = (now_ms - newest_end_ms) / 1000
        reasons.append(f"data: the newest window ended {age_s:.1f} s ago, expected at most {stale_after_s:g} s")
    return reasons
