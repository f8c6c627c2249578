"""Wait for a condition, with a deadline, in place of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_STEP_S = 0.05


def eventually(condition: Callable[[], T], within_s: float, what: str) -> T:
    """Call `condition` until it returns something true, and return that.

    An AssertionError of the condition counts as not yet, and is shown if the deadline passes; any other error ends the wait.
    """
    deadline = time.monotonic() + within_s
    while True:
        failed: AssertionError | None = None
        try:
            result = condition()
            if result:
                return result
        except AssertionError as error:
            failed = error
        if time.monotonic() > deadline:
            raise AssertionError(f"expected within {within_s} s: {what}; the last look gave {failed or result!r}")
        time.sleep(_STEP_S)
