"""The parts' plans: where each is looked for, wherever it listens."""

from pathlib import Path

import httpx
import pytest

from klinestream.runtime.config import Config
from klinestream.stack import plans
from klinestream.stack.jobs import Cluster
from klinestream.stack.layout import Layout
from klinestream.stack.part import Plan

# Parts with a host of their own for metrics → their section of the configuration.
SECTIONS = {"producer": "producer", "repair": "repair", "alerts": "signals", "archive": "archive", "proof": "proof", "books": "books"}


def planned(config: Config, folder: Path) -> dict[str, Plan]:
    cluster = Cluster("http://127.0.0.1:1")
    found = {plan.name: plan for plan in plans.plans(config, Layout.of(folder), cluster, True, ("books",))}
    cluster.close()
    return found


def listening_on(host: str) -> Config:
    config = Config()
    own = {"metrics_host": host, "metrics_port": 9}
    sections = {section: getattr(config, section).model_copy(update=own) for section in SECTIONS.values()}
    sections["signals"] = sections["signals"].model_copy(update={"webhook_url": "http://127.0.0.1:9"})
    sections["standin"] = config.standin.model_copy(update={"host": host})
    sections["server"] = config.server.model_copy(update={"host": host})
    return config.model_copy(update=sections)


@pytest.mark.parametrize(("host", "asked"), [("::", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("localhost", "localhost")])  # noqa: S104  # nothing is bound
def test_each_part_is_asked_where_it_listens(host: str, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All addresses of the machine are asked at this one; an address of IPv6 stands in brackets."""
    urls: list[str] = []
    monkeypatch.setattr(plans, "_answers", lambda url: lambda: bool(urls.append(url)))
    found = planned(listening_on(host), tmp_path)
    for name in (*SECTIONS, "standin"):
        found[name].is_up()
    assert {httpx.URL(url).host for url in urls} == {asked.strip("[]")}
    assert all(url.startswith(f"http://{asked}:") for url in urls)
    assert len(urls) == len(SECTIONS) + 1


@pytest.mark.parametrize("host", ["::", "::1", "2001:db8::1"])
def test_the_chart_s_address_is_one(host: str) -> None:
    """Whatever the server listens on, what is shown and asked is an address."""
    assert httpx.URL(plans.server_url(listening_on(host))).port == Config().server.port


def test_a_host_that_is_none_ends_nothing(tmp_path: Path) -> None:
    """A part whose host can't stand in an address isn't up; the supervisor goes on."""
    assert not planned(listening_on("no host:at all"), tmp_path)["producer"].is_up()
