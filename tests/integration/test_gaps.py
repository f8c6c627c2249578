"""`klinestream gaps` on a real broker: two producers' records in mixed order and garbage among them give the right states."""

import itertools
import re
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest

from klinestream.market.codec import encode_event
from klinestream.market.errors import BrokerError
from klinestream.market.events import SECOND_MS, FeedGap, GapState, IdGap, IdGapState, gap_id, id_gap_id
from klinestream.market.topics import FEED_GAPS, ID_GAPS
from klinestream.runtime.gap_ledger import read_ledger
from klinestream.runtime.kafka import Record, open_reader
from klinestream.runtime.sections import KafkaConfig
from klinestream.stack.java import scripts
from tests.stack import TestBroker
from tests.topics import create_all, publish

GARBAGE: tuple[bytes | None, ...] = (b"not JSON", b'{"gap":"x"}', b"\xff", None)
NOW_MS = time.time_ns() // 1_000_000
START_MS = NOW_MS // SECOND_MS * SECOND_MS - 600_000
LONG_AGO_S = -3 * 86_400
STATES = {(LONG_AGO_S, "detected"), (0, "refilled"), (10, "deferred"), (20, "repaired"), (30, "unfillable")}


def entry(symbol: str, first: int, end: int, state: GapState, producer: str, **fields: Any) -> FeedGap:
    """A record of a gap, in seconds after START_MS."""
    span = START_MS + first * SECOND_MS, START_MS + end * SECOND_MS
    values: dict[str, Any] = {"klines": 0, "source": "none", "proved": False, "trades": None, "reason": "", "time_ms": span[1] + 500}
    return FeedGap(gap_id(symbol, *span), symbol, state, producer, *span, **values | fields)


@pytest.fixture(scope="module")
def symbol(broker: TestBroker) -> str:
    """A symbol of this run's own, whose gaps two producers have written down: in mixed order, with repeats and garbage."""
    create_all(broker.bootstrap_servers)
    own = f"GAP{uuid.uuid4().hex[:8].upper()}"
    written = [
        entry(own, 30, 32, GapState.UNFILLABLE, "east", reason="REST has none"),
        entry(own, 0, 3, GapState.REFILLED, "east", klines=3, source="live+rest", proved=True),
        entry(own, 0, 3, GapState.DETECTED, "west"),
        entry(own, 0, 3, GapState.DETECTED, "east"),
        entry(own, 10, 14, GapState.DEFERRED, "west", klines=1, source="derived", trades=7, reason="[b]no answer[/nothing] \x1b[31m"),
        entry(own, 10, 14, GapState.DETECTED, "west"),
        entry(own, 20, 21, GapState.REPAIRED, "west", klines=1, source="rest"),
        entry(own, 20, 21, GapState.UNFILLABLE, "east"),
        entry(own, LONG_AGO_S, LONG_AGO_S + 1, GapState.DETECTED, "east"),
    ]
    lines = [encode_event(record) for record in [*written, *written[:4]]]
    values = [*lines[:2], *GARBAGE[:2], *lines[2:], *GARBAGE[2:]]
    publish(broker.bootstrap_servers, [Record(FEED_GAPS.name, own.encode(), value, NOW_MS) for value in values])
    return own


def gaps(folder: Path, servers: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    patience_s = "2" if servers.endswith(":1") else "20"  # nobody listens there
    environment = {"KLINESTREAM_KAFKA__BOOTSTRAP_SERVERS": servers, "KLINESTREAM_KAFKA__CONNECT_TIMEOUT_S": patience_s}
    environment |= {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [scripts() / "klinestream", "gaps", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_table_shows_what_became_of_each_gap(tmp_path: Path, broker: TestBroker, symbol: str) -> None:
    """A line a gap, newest last, in the furthest state; the counts; garbage is counted and said, and steers no terminal."""
    done = gaps(tmp_path, broker.bootstrap_servers, "--symbol", symbol.lower())
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if symbol in line]
    assert [(row[3], row[4], row[5], row[6], row[7], row[8]) for row in rows] == [
        ("1", "detected", "0", "none", "no", "east"),
        ("3", "refilled", "3", "live+rest", "yes", "east, west"),
        ("4", "deferred", "1", "derived", "no", "west"),
        ("1", "repaired", "1", "rest", "no", "east, west"),
        ("2", "unfillable", "0", "none", "no", "east"),
    ]
    assert rows[2][9] == "[b]no answer[/nothing] ?[31m"
    assert done.stdout.splitlines()[-1] == "5 gaps: 1 detected, 1 deferred, 1 unfillable, 1 refilled, 1 repaired"
    unusable = re.search(r"^(\d+) records of the topic could not be used", done.stderr, re.MULTILINE)
    assert unusable is not None
    assert int(unusable[1]) >= len(GARBAGE)
    assert "\x1b[31m" not in done.stdout


def test_json_is_a_line_a_gap(tmp_path: Path, broker: TestBroker, symbol: str) -> None:
    """`--json` prints nothing else on stdout; `--since` and `--state` choose."""
    done = gaps(tmp_path, broker.bootstrap_servers, "--symbol", symbol, "--json", "--since", "1d")
    assert done.returncode == 0, done.stderr
    told = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert {((one["from"] - START_MS) // SECOND_MS, one["state"]) for one in told} == STATES - {(LONG_AGO_S, "detected")}
    assert [one["from"] for one in told] == sorted(one["from"] for one in told)
    assert told[1] == {
        "gap": gap_id(symbol, START_MS + 10_000, START_MS + 14_000),
        "s": symbol,
        "state": "deferred",
        "from": START_MS + 10_000,
        "to": START_MS + 14_000,
        "klines": 1,
        "source": "derived",
        "proved": False,
        "trades": 7,
        "reason": "[b]no answer[/nothing] \x1b[31m",
        "time": START_MS + 14_500,
        "seconds": 4,
        "producers": ["west"],
    }
    chosen = gaps(tmp_path, broker.bootstrap_servers, "--symbol", symbol, "--json", "--state", "repaired")
    assert [orjson.loads(line)["state"] for line in chosen.stdout.splitlines()] == ["repaired"]
    assert gaps(tmp_path, broker.bootstrap_servers, "--symbol", "NOSUCH").stdout == "no gaps\n"


@pytest.mark.parametrize("client", ["kafka-python", "confluent-kafka"])
def test_a_program_reads_the_same_with_either_client(broker: TestBroker, symbol: str, client: str) -> None:
    """`read_ledger` comes to the topic's end: states, open gaps and holes are there, garbage is counted."""
    ledger = read_ledger(KafkaConfig(bootstrap_servers=broker.bootstrap_servers, client=client))
    own = [gap for gap in ledger.gaps() if gap.record.symbol == symbol]
    assert {((gap.record.from_ms - START_MS) // SECOND_MS, gap.record.state.value) for gap in own} == STATES
    assert [gap.record.state for gap in ledger.open_gaps() if gap.record.symbol == symbol] == [GapState.DETECTED, GapState.DEFERRED]
    holes = [((start - START_MS) // SECOND_MS, (end - START_MS) // SECOND_MS) for start, end in ledger.holes(symbol)]
    assert holes == [(LONG_AGO_S, LONG_AGO_S + 1), (10, 14), (30, 32)]
    assert ledger.unusable >= len(GARBAGE)


def test_a_part_of_the_ledger_is_never_taken_for_the_whole(broker: TestBroker, symbol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If records that must be there don't come, that is an error that says so, after a bounded wait."""

    class Silent:
        """A connection that broke after the ends were asked for."""

        def __init__(self, config: KafkaConfig, client_id: str) -> None:
            self._reader = open_reader(config, client_id)
            self.bounds, self.close = self._reader.bounds, self._reader.close

        def assign(self, positions: dict[tuple[str, int], int]) -> None:
            assert positions

        def poll(self, timeout_s: float) -> list[Record]:
            assert timeout_s > 0
            return []

    monkeypatch.setattr("klinestream.runtime.gap_ledger.open_reader", Silent)
    seconds = itertools.count()
    config = KafkaConfig(bootstrap_servers=broker.bootstrap_servers, client="confluent-kafka")
    with pytest.raises(BrokerError, match=r"expected crypto_feed_gaps up to offset .* but nothing came for 15 s: check"):
        read_ledger(config, clock_s=lambda: float(next(seconds)))
    assert symbol


def test_gaps_of_ids_stand_below_those_of_seconds(tmp_path: Path, broker: TestBroker) -> None:
    """Feed, symbol, ids, and the furthest state that anybody told, as a table and as JSON; garbage is counted."""
    create_all(broker.bootstrap_servers)
    own = f"IDS{uuid.uuid4().hex[:8].upper()}"

    def told(state: IdGapState, producer: str, obtained: int = 0) -> bytes:
        gap = id_gap_id("trades", own, 43, 47)
        entry = IdGap(gap, "trades", own, state, producer, 43, 47, START_MS, START_MS + 700, obtained, "not obtained", START_MS + 900)
        return encode_event(entry)

    values = [told(IdGapState.REPAIRED, "west", 4), b"garbage", told(IdGapState.DETECTED, "west"), told(IdGapState.UNFILLABLE, "east")]
    publish(broker.bootstrap_servers, [Record(ID_GAPS.name, own.encode(), value, NOW_MS) for value in values])
    shown = gaps(tmp_path, broker.bootstrap_servers, "--symbol", own.lower())
    (line,) = [line for line in shown.stdout.splitlines() if own in line]
    cells = [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
    assert cells[:7] == ["trades", own, "43", "47", "4", "repaired", "4"]
    assert cells[9:11] == ["east, west", "not obtained"]
    assert shown.stdout.startswith("no gaps\n")
    assert shown.stdout.endswith("1 gap of ids: 1 repaired\n")
    assert "could not be used" in shown.stderr
    (one,) = map(orjson.loads, gaps(tmp_path, broker.bootstrap_servers, "--symbol", own, "--json").stdout.splitlines())
    assert (one["feed"], one["from"], one["to"], one["ids"], one["state"]) == ("trades", 43, 47, 4, "repaired")
    assert one["producers"] == ["east", "west"]
    assert gaps(tmp_path, broker.bootstrap_servers, "--symbol", own, "--state", "detected").stdout == "no gaps\n"
    assert "--state: expected one of" in gaps(tmp_path, broker.bootstrap_servers, "--state", "lost").stderr


def test_errors_are_one_line(tmp_path: Path, broker: TestBroker) -> None:
    """A broker that is away and a time that is none are one line on stderr and exit code 1."""
    away = gaps(tmp_path, "127.0.0.1:1")
    wrong = gaps(tmp_path, broker.bootstrap_servers, "--since", "yesterday")
    assert (away.returncode, wrong.returncode, away.stdout, wrong.stdout) == (1, 1, "", "")
    assert "klinestream: expected a Kafka broker at 127.0.0.1:1" in away.stderr
    assert wrong.stderr.startswith("klinestream: --since: expected a time")
    assert "Traceback" not in away.stderr
