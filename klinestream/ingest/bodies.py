"""A request's body as a list of JSON values: one object, an array, or a line each (NDJSON). Pure."""

import orjson

from klinestream.ingest.refusals import Fault, PostError, shown, unfit

JSON, NDJSON = "application/json", "application/x-ndjson"
_NDJSON_TOO = ("application/ndjson", "application/jsonl", "application/x-jsonlines")


def form_of(content_type: str) -> str:
    """Which of the two forms a body has; raises PostError. Without a word on it JSON.

    >>> form_of("application/json; charset=utf-8")
    'application/json'
    """
    kind, _, parameters = content_type.lower().partition(";")
    charset = parameters.strip().removeprefix("charset=").strip('"')
    if parameters and charset not in ("", "utf-8", "utf8"):
        raise PostError(415, "media_type", "UTF-8", shown(content_type), "send UTF-8")
    kind = kind.strip() or JSON
    if kind in (NDJSON, *_NDJSON_TOO):
        return NDJSON
    if kind != JSON:
        raise PostError(415, "media_type", f"{JSON} or {NDJSON}", shown(content_type), "set the header Content-Type")
    return JSON


def values_of(body: bytes | bytearray, form: str, most: int) -> list[object]:
    """The records of a body, one or more; raises PostError."""
    values = _lines(body, most) if form == NDJSON else _whole(body)
    if len(values) > most:
        raise too_many(len(values), most)
    if not values:
        raise PostError(422, "empty", "one record or more", "none", "send some")
    return values


def _whole(body: bytes | bytearray) -> list[object]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise PostError(422, "not_json", "JSON: an object, or an array of objects", f"{error}"[:120], "send JSON") from None
    return found if isinstance(found, list) else [found]


def _lines(body: bytes | bytearray, most: int) -> list[object]:
    lines = [line for line in body.splitlines() if line.strip()]
    if len(lines) > most:
        raise too_many(len(lines), most)
    found: list[object] = []
    for number, line in enumerate(lines):
        try:
            found.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise unfit([Fault(number, "", "a line of JSON", f"{error}"[:120])]) from None
    return found


def too_many(records: int, most: int) -> PostError:
    """More records than one request may hold."""
    return PostError(
        413, "too_many", f"up to {most} records in one request (ingest.batch_most)", str(records), "send them in several requests"
    )
