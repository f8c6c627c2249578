"""`klinestream import --to topics` with a real broker: in order, each record once, also when it is killed in the middle."""

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from klinestream.cli.main import app
from klinestream.market.codec import decode_kline, decode_trade
from klinestream.market.events import Origin, Proof
from klinestream.market.topics import CANDLE_HISTORY, KLINES, TRADES
from klinestream.runtime.kafka import open_reader
from tests.eventually import eventually
from tests.files import UNIT, trades
from tests.stack import TestBroker
from tests.topics import Topic, create_all, kafka

ARGUMENTS = ("import", "--source", "house", "--to", "topics")
HEAD = "time,open,high,low,close,volume,quote_volume,count,taker_base_volume,taker_quote_volume,symbol\n"
PAGE = Path(__file__).parents[2] / "docs" / "import.md"


@pytest.fixture(autouse=True)
def folder(broker: TestBroker, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, of commands that find the broker."""
    monkeypatch.setenv("KLINESTREAM_KAFKA__BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    monkeypatch.setenv("KLINESTREAM_KAFKA__CLIENT", "confluent-kafka")
    return empty_folder


def run(*arguments: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, [*ARGUMENTS, *arguments])


def taken(*arguments: str) -> str:
    """What it says of an import that has to succeed."""
    done = run(*arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def killed(broker: TestBroker, topic: str, arguments: Sequence[str]) -> bool:
    """An import, killed as soon as the topic holds something; false if it was quicker than that."""
    command = [sys.executable, "-m", "klinestream.cli.main", *ARGUMENTS, *arguments]
    with (
        # One for all looks: to open one takes as long as the import writes.
        closing(open_reader(kafka(broker.bootstrap_servers), "test-import")) as reader,
        subprocess.Popen(command, stdout=subprocess.DEVNULL) as process,
    ):

        def writes() -> bool:
            return any(b'"written":true' in state.read_bytes() for state in Path().glob(".klinestream/imports/*/state.json"))

        eventually(lambda: writes() or process.poll() is not None, 60, "an import that is about to write")
        eventually(lambda: any(end for _, end in reader.bounds(topic).values()) or process.poll() is not None, 60, "records")
        process.kill()
    return process.returncode == -signal.SIGKILL


def values(broker: TestBroker, topic: str) -> list[bytes]:
    found = Topic(broker.bootstrap_servers, topic)
    try:
        return [record.value or b"" for record in found.read()]
    finally:
        found.close()


def test_trades_of_shuffled_files_are_in_order_on_their_topic(broker: TestBroker) -> None:
    """Field for field, by symbol, with ids that prove all but a symbol's first; and a prefix that holds records is refused."""
    clean = trades()
    clean.sample(fraction=1, shuffle=True, seed=1).write_csv("t.csv")
    taken("t.csv", "--kind", "trades", "--prefix", "shuffled.")
    found: dict[str, list[tuple[object, ...]]] = {}
    for value in values(broker, f"shuffled.{TRADES.name}"):
        one = decode_trade(value)
        told = one.first_id, one.last_id, one.time_ms, f"{one.price / UNIT:.8f}", one.buyer_is_maker
        found.setdefault(one.symbol, []).append(told)
        assert (one.aggregate_id, one.origin, one.source) == (None, Origin.FILE, "house")
        assert one.proof == (Proof.IDS if len(found[one.symbol]) > 1 else Proof.NONE)
    right = clean.select(pl.format("HOUSE:{}", "symbol"), "id", pl.col("id").alias("last"), "time", "price", "maker")
    assert found == {symbol: [row[1:] for row in rows.rows()] for (symbol,), rows in right.partition_by("symbol", as_dict=True).items()}
    Path("t.csv").touch()
    assert "choose another --prefix" in str(run("t.csv", "--kind", "trades", "--prefix", "shuffled.").exception)


def test_a_killed_import_goes_on_without_a_record_twice(broker: TestBroker) -> None:
    """Wherever it was killed, the topic then holds each kline once and in order."""
    start_s, seconds, symbols = 1_700_000_000, 25_000, 4
    rows = [f"{start_s + second},1,2,1,1.5,5,6,3,1,1,S{number}" for second in range(seconds) for number in range(symbols)]
    Path("k.csv").write_text(HEAD + "\n".join(rows))
    arguments = "k.csv", "--prefix", "killed."
    assert killed(broker, f"killed.{KLINES.name}", arguments)
    before = len(values(broker, f"killed.{KLINES.name}"))
    said = taken(*arguments)
    assert 0 < before < len(rows)
    assert "there already" in said
    by_symbol: dict[str, list[int]] = {}
    for value in values(broker, f"killed.{KLINES.name}"):
        one = decode_kline(value)
        by_symbol.setdefault(one.symbol, []).append(one.open_time_ms // 1000)
    assert by_symbol == {f"HOUSE:S{number}": list(range(start_s, start_s + seconds)) for number in range(symbols)}


def test_live_topics_take_what_they_keep_and_nothing_older(broker: TestBroker) -> None:
    """Told before anything is written; what is there, or lies before it, is passed over."""
    create_all(broker.bootstrap_servers)
    now_s = int(time.time()) // 60 * 60
    row = "{},1,2,1,1.5,5,6,3,1,1,L\n"
    Path("old.csv").write_text(HEAD + row.format(now_s - 400 * 86_400))
    assert "would delete them" in str(run("old.csv").exception)
    Path("a.csv").write_text(HEAD + "".join(row.format(now_s - 100 + n) for n in range(10)))
    Path("b.csv").write_text(HEAD + "".join(row.format(now_s - 95 + n) for n in range(10)))
    for name in ("a.csv", "b.csv"):
        taken(name)
    mine = [kline for value in values(broker, KLINES.name) if (kline := decode_kline(value)).symbol == "HOUSE:L"]
    assert [kline.open_time_ms // 1000 - now_s for kline in mine] == list(range(-100, -85))
    Path("c.csv").write_text(HEAD + "".join(row.format(now_s - 600 + 60 * n) for n in (0, 1, 2, 5)))
    taken("c.csv", "--interval", "1m", "--prefix", "candles.")
    histories = values(broker, f"candles.{CANDLE_HISTORY.name}")
    assert [value.count(b'"1.50000000"') for value in histories] == [3, 1]


def test_the_page_s_commands_run() -> None:
    """One after the other, on the files that the page shows."""
    page = PAGE.read_text()
    for name, content in re.findall(r"`([\w.]+)`:\n\n```csv\n(.*?)```", page, re.DOTALL):
        Path(name).write_text(content)
    commands = [shlex.split(line) for line in re.findall(r"^    klinestream (import .+)$", page, re.MULTILINE)]
    assert len(commands) >= 3
    for arguments in commands:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (arguments, done.output, done.exception)


@pytest.mark.soak
def test_a_large_shuffled_file_is_taken_in_bounded_memory() -> None:
    """Eight million trades of thirty days, in no order: under 2.5 GB, where holding all takes several times that."""
    rows, days = 8_000_000, 30
    ids = pl.int_range(rows, eager=True).shuffle(seed=1)
    frame = pl.DataFrame({"id": ids, "time": 1_700_000_000_000 + ids * (days * 86_400_000 // rows), "price": ids % 1000 + 1})
    frame.with_columns(qty=pl.lit("0.50000000"), symbol=pl.lit("BIG")).write_csv("big.csv")
    script = "import resource, sys; from klinestream.cli.main import app; app(sys.argv[1:], standalone_mode=False); "
    script += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    arguments = ["import", "big.csv", "--source", "house", "--kind", "trades"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 2_500_000
    archived = pl.scan_parquet(".klinestream/archive/imported/trades/*/*.parquet").select(pl.len(), pl.col("id").n_unique().alias("ids"))
    assert archived.collect().row(0) == (rows, rows)
