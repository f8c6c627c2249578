"""Trying again for as long as it takes: soon at first, then later and later, never after the end was asked for."""

import random
import threading
from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event, stop_when_event_set
from tenacity.wait import wait_base

from klinestream.market.errors import KlinestreamError, SchemaError

_FIRST_S, _MOST_S = 0.25, 10.0


class Patience(wait_base):
    """How long to wait after this many failures in a row; `reset` once something went well."""

    def __init__(self) -> None:
        """No failure yet."""
        self.reset()

    def reset(self) -> None:
        """The next failure counts as the first."""
        self._failures = 0

    def __call__(self, retry_state: RetryCallState) -> float:  # noqa: ARG002  # as the library calls it
        """Seconds, with jitter: sinks that lost the same database don't come back in step."""
        self._failures += 1
        most_s: float = min(_MOST_S, _FIRST_S * 2.0 ** min(self._failures - 1, 16))
        return most_s * random.uniform(0.5, 1.0)  # noqa: S311  # not a secret


def again_and_again(
    session: Callable[[], None],
    failure: type[KlinestreamError],
    patience: Patience,
    ending: threading.Event,
    told: Callable[[BaseException, float], None],
) -> None:
    """Run a session, again after each failure, until it returns or the end is asked for; `told` of each failure and the wait after it.

    A SchemaError ends it all: nothing gets better by trying again.
    """

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if error is not None:
            told(error, state.upcoming_sleep)

    Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, failure) and not isinstance(error, SchemaError)),
        wait=patience,
        stop=stop_when_event_set(ending),
        sleep=sleep_using_event(ending),
        before_sleep=tell,
        retry_error_callback=lambda _: None,
    )(session)
