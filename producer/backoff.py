"""How long to wait before the next attempt: doubled each time, capped, with jitter so that many do not come at once."""

from collections.abc import Callable, Iterator


def pauses(first_s: float, most_s: float, uniform: Callable[[float, float], float]) -> Iterator[float]:
    """Endless seconds to wait: each between half and all of a bound that doubles from `first_s` to `most_s`.

    `uniform(a, b)` draws from [a, b], as random.uniform does.

    >>> from itertools import islice
    >>> list(islice(pauses(0.25, 1.0, lambda low, high: high), 4))
    [0.25, 0.5, 1.0, 1.0]
    """
    bound_s = min(first_s, most_s)
    while True:
        yield uniform(bound_s / 2, bound_s)
        bound_s = min(2 * bound_s, most_s)
