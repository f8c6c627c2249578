"""Windows over trades: the engine alone, and the job on a full topic and on live trades: `python -m bench trade_windows`.

30,000 trades a second over 1,400 symbols, one of them with 2,500; the others alike.
"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import psutil

from bench.report import Report, percentiles
from bench.throughput import broker_and_flink, rate
from klinestream.market import trade_batch
from klinestream.market.topics import PUBLISHED_HEADER, TRADE_WINDOWS, TRADES
from klinestream.market.trade_windows import TradeWindowEngine, TradeWindowSettings
from klinestream.runtime.config import load
from klinestream.runtime.kafka import Record, open_publisher, open_reader
from klinestream.runtime.sections import KafkaConfig
from klinestream.stack.commands import configuration, script_of
from tests.stack import TestBroker

SYMBOLS = 1400
A_SECOND = 30_000
OF_ONE = 2500
_ENGINE_S = 5
_FULL_S = 30
_LIVE_S = 30
_WARM_S = 15
_TICK_S = 0.01
_MOST_S = 90.0
_STILL_S = 10.0


def trades(start_ms: int, seconds: float, next_ids: list[int]) -> Iterator[tuple[str, int, bytes]]:
    """(symbol, time, line) in order of time; `next_ids` go on."""
    random = np.random.default_rng(start_ms)
    count = int(A_SECOND * seconds)
    chosen = np.where(random.random(count) < OF_ONE / A_SECOND, 0, random.integers(1, SYMBOLS, count))
    times = np.sort(random.integers(start_ms, start_ms + int(1000 * seconds), count))
    prices, quantities = random.integers(10**10, 10**10 + 10**6, count), random.integers(1, 10**9, count)
    for number, time_ms, price, quantity in zip(*(column.tolist() for column in (chosen, times, prices, quantities)), strict=True):
        symbol, first = f"COIN{number}USDT", next_ids[number]
        next_ids[number] += 1
        yield (
            symbol,
            time_ms,
            f'{{"s":"{symbol}","a":{first},"f":{first},"l":{first},"p":"{price // 10**8}.{price % 10**8:08d}",'
            f'"q":"{quantity // 10**8}.{quantity % 10**8:08d}","T":{time_ms},"m":{"true" if quantity % 2 else "false"},"c":null,'
            f'"origin":"live","source":"binance","proof":"ids"}}'.encode(),
        )


def measure(report: Report, folder: Path) -> None:
    """The engine alone, then the job."""
    _engine(report)
    with broker_and_flink(folder) as (broker, flink):
        ids = [1] * SYMBOLS
        start_ms = int(time.time() * 1000) - (_FULL_S + 5) * 1000
        held = _publish(broker, trades(start_ms, _FULL_S, ids))
        config = load(None, kafka={"bootstrap_servers": broker.bootstrap_servers})
        job = flink.submit(script_of("trade_windows"), env=configuration(config))
        grown = _watch(broker, 2 * SYMBOLS * (_FULL_S - 2))
        for what, first, last in (("job, a full topic: all", 0, 1), ("its second half", 0.5, 1)):
            rows, a_second = rate(grown, first, last)
            trades_a_second = round(a_second * held / (2 * SYMBOLS * _FULL_S))
            report.row(what, trades=held, windows=rows, windows_a_second=round(a_second), trades_a_second=trades_a_second)
        _live(report, broker, psutil.Process(flink.task_manager_pid), ids)
        flink.cancel(job)
    report.note(f"{A_SECOND:,} trades a second of {SYMBOLS:,} symbols, {OF_ONE:,} of them of one; parallelism 1, checkpoint every second")
    report.note("latency: from when the completing trade was handed to its publisher until the window's record was made, ms")


def _engine(report: Report) -> None:
    """Trades a second in one thread: batches as the job has them, and larger ones."""
    held = list(trades(1_790_000_000_000, _ENGINE_S, [1] * SYMBOLS))
    lines, times = [line for _, _, line in held], [at for _, at, _ in held]
    for size in (150, 600, 5000):
        engine = TradeWindowEngine(TradeWindowSettings())
        spent = {"parse": 0.0, "step": 0.0, "write": 0.0}
        windows = 0
        for start in range(0, len(lines), size):
            began = time.perf_counter()
            batch, _, bad = trade_batch.decode(lines[start : start + size], times[start : start + size])
            parsed = time.perf_counter()
            step = engine.take_trades(batch)
            stepped = time.perf_counter()
            windows += sum(len(rows.lines()) for rows in step.windows)
            spent["parse"] += parsed - began
            spent["step"] += stepped - parsed
            spent["write"] += time.perf_counter() - stepped
            assert not bad
        a_trade = {stage: round(seconds / len(lines) * 1e6, 2) for stage, seconds in spent.items()}
        a_second = round(len(lines) / sum(spent.values()))
        report.row(f"engine, batches of {size}", trades=len(lines), windows=windows, trades_a_second=a_second, **a_trade)
    report.note("engine: one thread; parse, step and write are µs a trade")


def _publish(broker: TestBroker, records: Iterator[tuple[str, int, bytes]]) -> int:
    publisher = open_publisher(_kafka(broker), "bench-fill")
    count = 0
    for symbol, at, line in records:
        publisher.publish(Record(TRADES.name, symbol.encode(), line, at))
        count += 1
    publisher.flush(60)
    publisher.close(10)
    return count


def _watch(broker: TestBroker, rows: int) -> list[tuple[float, int]]:
    """(seconds, windows so far), from the first on, until so many are there or they stop."""
    reader = open_reader(_kafka(broker), "bench-watch")
    grown: list[tuple[float, int]] = []
    began = time.perf_counter()
    while not grown or grown[-1][1] < rows:
        now = time.perf_counter()
        if now - began > _MOST_S or (grown and now - grown[-1][0] > _STILL_S):
            break
        came = sum(end for _, end in reader.bounds(TRADE_WINDOWS.name).values())
        if came > (grown[-1][1] if grown else 0):
            grown.append((now, came))
        time.sleep(0.1)
    reader.close()
    assert len(grown) > 1, "expected windows, got none"
    return grown


def _live(report: Report, broker: TestBroker, task_manager: psutil.Process, ids: list[int]) -> None:
    """Trades at their rate, in ticks; when each window's record was made, next to when the trade that completed it was handed over."""
    reader = open_reader(_kafka(broker), "bench-live")
    reader.assign({(TRADE_WINDOWS.name, partition): end for partition, (_, end) in reader.bounds(TRADE_WINDOWS.name).items()})
    made: dict[tuple[str, int], int] = {}
    stopping = threading.Event()

    def read() -> None:
        while not stopping.is_set():
            for record in reader.poll(0.1):
                value = orjson.loads(record.value or b"")
                made[value["symbol"], value["window_end"]] = int(dict(record.headers)[PUBLISHED_HEADER])

    listener = threading.Thread(target=read)
    listener.start()
    handed: dict[tuple[str, int], int] = {}
    frontier: dict[str, int] = {}
    publisher = open_publisher(_kafka(broker), "bench-live")
    spent_s, began, late_s, first = 0.0, time.perf_counter(), 0.0, 0
    ticks = int((_WARM_S + _LIVE_S) / _TICK_S)
    for tick in range(ticks):
        if tick == int(_WARM_S / _TICK_S):
            spent_s, first, late_s = _cpu_s(task_manager), time.time_ns() // 1_000_000, 0.0
        wait = began + tick * _TICK_S - time.perf_counter()
        late_s = max(late_s, -wait)
        if wait > 0:
            time.sleep(wait)
        now_ms = time.time_ns() // 1_000_000
        for symbol, at, line in trades(now_ms, _TICK_S, ids):
            publisher.publish(Record(TRADES.name, symbol.encode(), line, at))
            end = at // 500 * 500
            if frontier.get(symbol, 0) < end:
                frontier[symbol] = end
                handed[symbol, end] = now_ms
    spent_s = _cpu_s(task_manager) - spent_s
    took_s = time.perf_counter() - began
    publisher.flush(30)
    publisher.close(10)
    time.sleep(2)
    stopping.set()
    listener.join()
    reader.close()
    delays = [float(made[key] - at) for key, at in handed.items() if key in made and key[1] >= first]
    report.row(
        f"job, live, {_LIVE_S} s",
        trades_a_second=round(ticks * _TICK_S * A_SECOND / took_s),
        windows=len(delays),
        **percentiles(delays),
        job_cpu_ms_a_second=round(1000 * spent_s / _LIVE_S),
        publisher_late_most_ms=round(1000 * late_s),
    )


def _cpu_s(root: psutil.Process) -> float:
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return float(sum(spent.user + spent.system for spent in times))


def _kafka(broker: TestBroker) -> KafkaConfig:
    return KafkaConfig(bootstrap_servers=broker.bootstrap_servers, client="confluent-kafka", linger_ms=2)
