"""History from the server's REST interface as polars frames."""

import io
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx

from klinestream.client.address import DEFAULT_URL, ClientError, authorization, checked, is_local

if TYPE_CHECKING:
    import polars

KINDS = ("windows", "candles", "indicators", "signals", "books")
WITHOUT_INTERVAL = ("windows", "books")
LIMIT_MOST = 1000
_TIMEOUT_S = 30.0


def frame(
    symbol: str,
    kind: str = "candles",
    interval: str = "1m",
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    limit: int = 500,
    url: str = DEFAULT_URL,
    token: str | None = None,
) -> "polars.DataFrame":
    """The newest records of a symbol, in order of time; with `from_ms` the oldest from then on, `to_ms` is exclusive (ms since 1970 UTC).

    `kind` is windows, candles, indicators, signals or books. The columns are the fields of the topic, prices and volumes of candles exact
    decimals; windows and books have no interval. Of books it is all but their levels, with two columns for the depth within each
    distance. `limit` is up to 1000. `token` is for a server that asks for one; without it that of KLINESTREAM_CLIENT__TOKEN is taken.
    Raises ClientError.
    """
    if kind not in KINDS:
        raise ClientError(f"expected a kind among {', '.join(KINDS)}, got {kind!r}")
    try:
        import polars  # noqa: PLC0415  # heavy, and only frames need it
    except ImportError:
        raise ClientError("expected polars, which frames are made with, but it isn't installed: pip install polars") from None
    asked = {"symbol": symbol, "from": from_ms, "to": to_ms, "limit": limit, "format": "arrow"}
    asked |= {} if kind in WITHOUT_INTERVAL else {"interval": interval}
    known = {name: value for name, value in asked.items() if value is not None}
    path = f"books/{quote(str(known.pop('symbol')), safe='')}/features" if kind == "books" else kind
    content = _get(f"{checked(url).rstrip('/')}/api/v1/{path}", known, authorization(token))
    return polars.read_ipc_stream(io.BytesIO(content))


def _get(url: str, asked: dict[str, str | int], headers: dict[str, str]) -> bytes:
    try:
        answer = httpx.get(url, params=asked, headers=headers, timeout=_TIMEOUT_S, trust_env=not is_local(url))
    except httpx.HTTPError as error:
        raise ClientError(f"expected an answer from {url}, got none ({error}): is `klinestream server` running there?") from None
    if answer.status_code != httpx.codes.OK:
        raise ClientError(f"{url}: {_why(answer)}")
    return answer.content


def _why(answer: httpx.Response) -> str:
    try:
        told = answer.json()["error"]
        return f"expected {told['expected']}, got {told['came']}: {told['do']}"
    except (ValueError, KeyError, TypeError):
        return f"expected records, got status {answer.status_code}: is this address one of klinestream's server?"
