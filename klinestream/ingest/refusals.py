"""What a request is told that isn't taken: what was expected, what came, what to do. One form for all. Pure.

`{"error": {"status": 422, "expected": "h: a decimal string such as 25.35190000", "came": "'abc'", "do": "…", "faults": […]}}`
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from klinestream.market.errors import KlinestreamError

SHOWN_MOST = 80
FAULTS_MOST = 20
"""Of more faults than these the first are told."""
READ_THE_DOCS = "see /api/openapi.json or docs/ingest.md"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one field of one record; `field` is empty where the record as a whole is meant."""

    record: int
    field: str
    expected: str
    came: str


class PostError(KlinestreamError):
    """A request of which nothing is published. `reason` is short and stable: rejected requests are counted by it."""

    def __init__(
        self,
        status: int,
        reason: str,
        expected: str,
        came: str,
        todo: str,
        *,
        retry_after_s: int | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        """All but `reason` goes to the client as it is."""
        super().__init__(f"expected {expected}, got {came}: {todo}")
        self.status = status
        self.reason = reason
        self.expected = expected
        self.came = came
        self.todo = todo
        self.retry_after_s = retry_after_s
        self.faults = faults

    @property
    def body(self) -> bytes:
        """The body of the answer."""
        told: dict[str, object] = {"status": self.status, "expected": self.expected, "came": self.came, "do": self.todo}
        if self.faults:
            told["faults"] = list(self.faults)
        return orjson.dumps({"error": told})

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        return {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}


def unfit(faults: Sequence[Fault]) -> PostError:
    """Records that can't be used, one or more."""
    first = faults[0]
    where = f"record {first.record}" + (f", field {first.field}" if first.field else "")
    more = f", and {len(faults) - 1} more faults" if len(faults) > 1 else ""
    todo = f"mend it and send the whole request again: nothing of it was published; {READ_THE_DOCS}"
    return PostError(422, "unfit", f"{where}: {first.expected}", first.came + more, todo, faults=faults)


def shown(value: object) -> str:
    """A value as an error shows it: not more than a line."""
    text = ascii(value)
    return text if len(text) <= SHOWN_MOST else f"{text[: SHOWN_MOST - 1]}…"
