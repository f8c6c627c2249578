"""The broker's configuration, as Java reads it."""

from pathlib import Path

from klinestream.stack import broker
from klinestream.stack.layout import Layout


def test_a_folder_beyond_latin_1_is_escaped(tmp_path: Path) -> None:
    r"""Properties are Latin-1 to Java: what is beyond ASCII stands there as \uXXXX, a backslash twice."""
    layout = Layout.of(tmp_path / "me@home (ü)\\😀")
    broker.prepare(layout, 1, 2)
    (written,) = (line for line in (layout.kafka / "server.properties").read_bytes().splitlines() if line.startswith(b"log.dirs="))
    assert written.endswith(rb"/me@home (\u00fc)\\\ud83d\ude00/kafka/data")
