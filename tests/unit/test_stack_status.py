"""What `klinestream up` tells a person."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from klinestream.runtime.config import load
from klinestream.stack import status
from klinestream.stack.part import State
from klinestream.stack.status import Display
from klinestream.stack.supervisor import Row


def test_the_charts_address_comes_as_soon_as_it_has_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a table too, the address is told within half a second of the first data, not with the next line."""
    now_s = 100.0
    monkeypatch.setattr(status.time, "monotonic", lambda: now_s)
    said = io.StringIO()
    display = Display(with_table=False, console=Console(file=said))
    has_data = False
    rows = [Row("server", State.UP, 1, 8084, 0, None)]
    stack: Any = SimpleNamespace(rows=lambda: rows, chart_has_data=lambda: has_data, config=load(None))
    display.update(stack)
    assert "http" not in said.getvalue()
    has_data = True
    now_s += 0.5
    display.update(stack)
    assert "the chart has data: http://localhost:8084/chart" in said.getvalue()
    display.update(stack)
    assert said.getvalue().count("http") == 1
