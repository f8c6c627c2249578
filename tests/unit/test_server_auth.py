"""Who may read a server that has tokens, how browsers log in, and how guesses are slowed down."""

import asyncio
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.errors import BrokerError, ConfigError
from klinestream.runtime.access.addresses import address_of, is_loopback
from klinestream.runtime.access.guesses import ANOTHER_EVERY_S, AT_ONCE, Guesses
from klinestream.runtime.access.names import is_local_name
from klinestream.runtime.access.tokens import SESSION_S, Tokens
from klinestream.runtime.config import load
from klinestream.runtime.kafka import Reader
from klinestream.runtime.server_sections import ServerConfig
from server.access.guards import refuse_open
from server.access.login import BODY_MOST_BYTES, COOKIE
from server.access.security import HEADERS, origin_allowed
from server.app import create_app

TOKEN, OTHER = "correct-horse-battery", "staple-battery-horse"
NOW_S = 1_790_000_000
HERE = "http://chart.example"


def no_reader() -> Reader:
    raise BrokerError("expected no reading in this test")


def app(**settings: Any) -> FastAPI:
    """A server that has read nothing: its threads don't start outside of its lifespan."""
    return create_app(ServerConfig(**{"tokens": f"{TOKEN}, {OTHER}", **settings}), no_reader, lambda: NOW_S * 1000)


def ask(server: FastAPI, *requests: tuple[str, str], base: str = HERE, address: str = "192.0.2.1", **options: Any) -> list[httpx.Response]:
    """The answers to requests, method and path, that keep cookies as a browser does."""

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(server, client=(address, 1234))
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            return [await client.request(method, path, **options) for method, path in requests]

    return asyncio.run(all_of_them())


def get(server: FastAPI, path: str, **options: Any) -> httpx.Response:
    return ask(server, ("GET", path), **options)[0]


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def log_in(server: FastAPI, token: str, path: str = "/login", **options: Any) -> httpx.Response:
    return ask(server, ("POST", path), data={"token": token}, **options)[0]


def test_nothing_but_probes_and_the_login_is_open() -> None:
    """Every route that there is asks for a token, with what to do; so does any that there isn't."""
    server = app()
    paths = [route.path for route in server.routes if hasattr(route, "path")]
    paths += ["/static/js/main.js", "/api/openapi.json", "/nothing", "//chart", "/metrics"]
    is_open = {path for path in paths if get(server, path).status_code != 401}
    assert is_open == {"/healthz", "/readyz"}
    assert all(get(server, path).status_code == 200 for path in ("/static/login.css", "/static/palette.css", "/static/favicon.svg"))


@pytest.mark.parametrize("token", [TOKEN, OTHER])
def test_a_token_opens_everything(token: str) -> None:
    """Each of them, as a header; its scheme in any case."""
    server = app()
    for path in ("/chart", "/metrics", "/api/symbols", "/api/v1/status", "/api/v3/ping", "/static/js/main.js"):
        assert get(server, path, headers=bearer(token)).status_code == 200, path
    assert get(server, "/metrics", headers={"authorization": f"bearer  {token}"}).status_code == 200


REFUSED = {"none": {}, "wrong": bearer("wrong"), "empty": bearer(""), "basic": {"authorization": "Basic eDp5"}, "latin": bearer("é" * 20)}


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_what_to_do_in_the_form_of_the_route(headers: dict[str, str]) -> None:
    """Ours, the exchange's, or the page to log in with; never with the token that came."""
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    ours, exchange, page = (
        get(app(), path, headers=encoded | {"accept": "text/html"}) for path in ("/api/v1/status", "/api/v3/ping", "/chart")
    )
    assert [answer.status_code for answer in (ours, exchange, page)] == [401] * 3
    assert "/login" in ours.json()["error"]["do"]
    assert exchange.json()["code"] == -2015
    assert '<input id="token"' in page.text
    for answer in (ours, exchange, page):
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["cache-control"] == "no-store"
        assert HEADERS.keys() <= answer.headers.keys()
        assert "wrong" not in answer.text.replace("wrong tokens", "")


def test_a_browser_logs_in_where_it_was_stopped_and_out_again() -> None:
    """The form stands in the page's place, and leads back to it; the cookie opens everything, until it is given back."""
    server = app()

    async def browse() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url=HERE) as client:
            client.headers["accept"] = "text/html"
            stopped = await client.get("/chart?symbol=BTCUSDT")
            entered = await client.post("/chart?symbol=BTCUSDT", data={"token": f" {TOKEN} "}, headers={"origin": HERE})
            opened = [await client.get(path) for path in (entered.headers["location"], "/api/symbols", "/login")]
            left = await client.post("/logout", headers={"origin": HERE})
            return [stopped, entered, *opened, left, await client.get("/chart")]

    stopped, entered, chart, symbols, login, left, again = asyncio.run(browse())
    assert (stopped.status_code, entered.status_code, entered.headers["location"]) == (401, 303, "/chart?symbol=BTCUSDT")
    assert (chart.status_code, symbols.status_code, login.status_code) == (200, 200, 200)
    assert "Log out" in login.text
    assert (left.headers["location"], again.status_code) == ("/login", 401)


def test_the_cookie_is_for_this_site_and_no_script() -> None:
    """HttpOnly, SameSite=Strict; Secure where the request came by https. It is not the token."""
    for base in (HERE, "https://chart.example"):
        answer = log_in(app(), TOKEN, base=base)
        kept = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
        assert (kept["httponly"], kept["samesite"], kept["path"], kept["max-age"]) == (True, "Strict", "/", str(SESSION_S))
        assert bool(kept["secure"]) == base.startswith("https")
        assert TOKEN not in answer.headers["set-cookie"]


def test_any_server_with_the_token_takes_a_session_and_no_other_does() -> None:
    """Replicas agree without sharing anything; who loses the token loses the session."""
    cookie = log_in(app(), OTHER).headers["set-cookie"].partition(";")[0]
    assert get(app(tokens=OTHER), "/metrics", headers={"cookie": cookie}).status_code == 200
    assert get(app(tokens=TOKEN), "/metrics", headers={"cookie": cookie}).status_code == 401


@given(st.text(max_size=90) | st.integers(0, 2**40).map(lambda end: f"{end}.{'0' * 64}"))
def test_no_session_can_be_made_up(session: str) -> None:
    """Nor one be prolonged: its end is signed."""
    tokens = Tokens([TOKEN])
    assert not tokens.continue_session(session, NOW_S)
    given = tokens.session(TOKEN, NOW_S)
    end, _, signature = given.partition(".")
    assert tokens.continue_session(given, NOW_S + SESSION_S - 1)
    assert not tokens.continue_session(given, NOW_S + SESSION_S)
    assert not tokens.continue_session(f"{int(end) + 1}.{signature}", NOW_S)


@given(st.text(max_size=40))
def test_no_other_token_is_accepted(token: str) -> None:
    """Whatever it is made of."""
    assert not Tokens([TOKEN]).accept(token)
    assert not Tokens([]).accept(token)


FORMS: dict[str, tuple[dict[str, Any], int]] = {
    "from another site": ({"data": {"token": TOKEN}, "headers": {"origin": "https://evil.example"}}, 403),
    "from nowhere": ({"data": {"token": TOKEN}, "headers": {"origin": "null"}}, 403),
    "too large": ({"data": {"token": "x" * (BODY_MOST_BYTES + 1)}}, 400),
    "many fields": ({"data": {str(n): n for n in range(20)}}, 400),
    "not ASCII": ({"content": b"\xff"}, 400),
    "empty": ({"data": {"token": " "}}, 401),
    "wrong": ({"data": {"token": "<b>wrong"}}, 401),
}


@pytest.mark.parametrize(("options", "status"), FORMS.values(), ids=FORMS)
def test_a_form_that_is_none_of_ours_opens_nothing(options: dict[str, Any], status: int) -> None:
    """It is answered with the page, which says why; nothing that came stands in it."""
    [answer] = ask(app(), ("POST", "/login"), **options)
    assert answer.status_code == status
    assert "set-cookie" not in answer.headers
    assert "<form" in answer.text
    assert "<b>" not in answer.text


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "/%2f/evil.example", "/login"])
def test_a_login_leads_to_no_other_host(path: str) -> None:
    """Whatever page it stood in place of."""
    location = log_in(app(), TOKEN, HERE + path).headers["location"]
    assert location.startswith("/")
    assert httpx.URL(HERE).join(location.replace("\\", "/")).host == "chart.example"


def test_a_reader_from_another_site_s_link_can_go_on() -> None:
    """The browser keeps the cookie back then; a click sends it."""
    page = get(app(), "/chart", headers={"accept": "text/html", "sec-fetch-site": "cross-site"})
    assert '<a href="">' in page.text
    assert '<a href="">' not in get(app(), "/chart", headers={"accept": "text/html", "sec-fetch-site": "none"}).text


def test_the_page_allows_itself_a_form_and_no_script() -> None:
    """Its policy is stricter than the chart's but for that."""
    policy = get(app(), "/login").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert "script" not in policy
    assert "inline" not in policy


def test_guesses_are_slowed_down_by_address() -> None:
    """After ten wrong ones an address has to wait, with a right one too; another address hasn't, nor has a session."""
    server = app()
    cookie = log_in(server, TOKEN).headers["set-cookie"].partition(";")[0]
    statuses = [get(server, "/metrics", headers=bearer(f"guess {n}")).status_code for n in range(AT_ONCE + 1)]
    assert statuses == [401] * AT_ONCE + [429]
    locked = get(server, "/api/v3/ping", headers=bearer(TOKEN))
    assert (locked.status_code, locked.json()["code"]) == (429, -1003)
    assert 0 < int(locked.headers["retry-after"]) <= ANOTHER_EVERY_S
    assert log_in(server, TOKEN).status_code == 429
    assert get(server, "/metrics", headers={"cookie": cookie}).status_code == 200
    assert get(server, "/metrics", headers=bearer(TOKEN), address="192.0.2.2").status_code == 200
    assert f"tokens_refused_total {AT_ONCE}" in get(server, "/metrics", headers={"cookie": cookie}).text


def test_the_same_wrong_token_is_no_further_guess() -> None:
    """A client with an old token locks nobody out who shares its address."""
    server = app()
    assert {get(server, "/metrics", headers=bearer("an old token")).status_code for _ in range(3 * AT_ONCE)} == {401}
    assert get(server, "/metrics", headers=bearer(TOKEN)).status_code == 200


def test_guesses_come_back_with_time_and_addresses_are_forgotten() -> None:
    """One in six seconds; of too many addresses the one that was silent for longest."""
    guesses = Guesses(at_once=1, addresses_most=2)
    guesses.wrong("a", "1", 0.0)
    assert [guesses.wait_s("a", "2", at_s) for at_s in (0.0, 2.5, 6.0)] == [6, 4, 0]
    for address in ("b", "c"):
        guesses.wrong(address, "1", 6.0)
    assert [guesses.wait_s(address, "2", 6.0) > 0 for address in ("a", "b", "c")] == [False, True, True]


ADDRESSES = {
    "192.0.2.7": "192.0.2.7",
    "::ffff:192.0.2.7": "192.0.2.7",
    "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
    "fe80::1%eth0": "fe80::/64",
    "unknown": "unknown",
    "x" * 500: "x" * 64,
}


@pytest.mark.parametrize(("client", "counted"), ADDRESSES.items())
def test_limits_count_an_address_once(client: str, counted: str) -> None:
    """Of IPv6 the network, since each client has the whole of one; of nonsense a part."""
    assert address_of({"client": (client, 1)}) == counted
    assert address_of({"client": None}) == ""


@pytest.mark.parametrize("host", ["::", "192.0.2.1", "2001:db8::1", "chart.example"])
def test_a_server_that_strangers_can_reach_needs_tokens(host: str) -> None:
    """Or somebody who says that it is meant; the message names both."""
    with pytest.raises(ConfigError, match=r"got none: set KLINESTREAM_SERVER__TOKENS .*server\.public"):
        refuse_open(ServerConfig(host=host), host)
    refuse_open(ServerConfig(host=host, public=True), host)
    refuse_open(ServerConfig(host=host, tokens=TOKEN), host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_a_server_of_this_machine_needs_none(host: str) -> None:
    """It is the default."""
    refuse_open(ServerConfig(host=host), host)
    assert is_loopback(host)


def test_without_tokens_only_this_machine_s_names_are_answered() -> None:
    """A stranger's name that leads here is refused (DNS rebinding, or a proxy that nobody meant); probes are not."""
    server = app(tokens="", allowed_origins=("https://chart.example",))
    for base in ("http://localhost:8084", "http://127.0.0.1", "http://[::1]:8084", "http://server:8084", HERE):
        assert get(server, "/api/symbols", base=base).status_code == 200, base
    refused = get(server, "/api/symbols", base="http://evil.example")
    assert refused.status_code == 403
    assert "KLINESTREAM_SERVER__TOKENS" in refused.json()["error"]["do"]
    assert get(server, "/healthz", base="http://evil.example").status_code == 200
    assert get(app(tokens="", public=True), "/api/symbols", base="http://evil.example").status_code == 200


@given(st.text(max_size=80) | st.text("htps[]:/@.0cx", max_size=20))
def test_any_host_and_any_origin_can_be_judged(text: str) -> None:
    """Nothing that a header can hold is a fault of the program; an origin is allowed if it is ours alone."""
    assert is_local_name(text) in (True, False)
    assert origin_allowed(text, "chart.example", ()) == (text.lower() in ("http://chart.example", "https://chart.example"))


BAD_SETTINGS = {
    "tokens": ("short", "number 1 isn't"),
    "trusted_proxies": ('["*"]', "addresses or networks"),
    "allowed_origins": ('["https://chart.example/"]', "without a path"),
}


@pytest.mark.parametrize(("key", "told"), BAD_SETTINGS.items(), ids=BAD_SETTINGS)
@pytest.mark.usefixtures("empty_folder")
def test_what_can_be_no_setting_is_named(key: str, told: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By its key; a token never stands in the message, nor in any representation."""
    value, reason = told
    monkeypatch.setenv("KLINESTREAM_SERVER__TOKENS", TOKEN)
    assert TOKEN not in repr(load())
    monkeypatch.setenv(f"KLINESTREAM_SERVER__{key.upper()}", value)
    with pytest.raises(ConfigError, match=f"{key} must .*{reason}") as raised:
        load()
    assert TOKEN not in str(raised.value)
    assert key != "tokens" or value not in str(raised.value)


@pytest.mark.parametrize(("section", "key"), [("server", "tokens"), ("client", "token")])
def test_tokens_stand_in_no_file(empty_folder: Any, section: str, key: str) -> None:
    """They come from the environment alone."""
    (empty_folder / "klinestream.toml").write_text(f'[{section}]\n{key} = "{TOKEN}"\n')
    with pytest.raises(ConfigError, match=f"set KLINESTREAM_{section.upper()}__{key.upper()}"):
        load()
