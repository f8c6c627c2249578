"""The candles job's indicators as one would write them first: one Python call a candle. Only to compare with."""

import json
import os

from pyflink.common import SimpleStringSchema, Types, WatermarkStrategy
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.connectors.kafka import KafkaOffsetsInitializer, KafkaRecordSerializationSchema, KafkaSink, KafkaSource
from pyflink.datastream.functions import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor

BROKERS, SOURCE, SINK = (os.environ[f"BENCH_{name}"] for name in ("BROKERS", "SOURCE", "SINK"))


def ema(level: float, value: float, taken: int, period: int) -> float:
    """Seeded with the mean of the first values."""
    if taken <= period:
        return level + value / period
    return level + 2 / (period + 1) * (value - level)


class WithIndicators(KeyedProcessFunction):
    """SMA 20 and 50, EMA 12 and 26, RSI 14 and MACD 12 26 9 of one symbol and interval, one candle at a time."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.state = runtime_context.get_state(ValueStateDescriptor("indicators", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, value, _context):
        close = float(value["c"])
        closes, taken, fast, slow, signal, up, down = self.state.value() or ([], 0, 0.0, 0.0, 0.0, 0.0, 0.0)
        change = close - closes[-1] if closes else 0.0
        closes, taken = [*closes[-49:], close], taken + 1
        fast, slow = ema(fast, close, taken, 12), ema(slow, close, taken, 26)
        line = fast - slow if taken >= 26 else None
        if line is not None:
            signal = ema(signal, line, taken - 25, 9)
        gain, loss = max(change, 0.0), max(-change, 0.0)
        if taken <= 15:
            up, down = up + gain / 14, down + loss / 14
        else:
            up, down = up + (gain - up) / 14, down + (loss - down) / 14
        self.state.update((closes, taken, fast, slow, signal, up, down))
        has_signal = taken >= 34
        values = {
            "sma_20": sum(closes[-20:]) / 20 if taken >= 20 else None,
            "sma_50": sum(closes) / 50 if taken >= 50 else None,
            "ema_12": fast if taken >= 12 else None,
            "ema_26": slow if taken >= 26 else None,
            "rsi_14": None if taken < 15 else 50.0 if up + down == 0 else 100 * up / (up + down),
            "macd_12_26_9": line,
            "macd_signal_12_26_9": signal if has_signal else None,
            "macd_histogram_12_26_9": line - signal if has_signal else None,
        }
        yield json.dumps({"s": value["s"], "i": value["i"], "t": value["t"], "T": value["T"], "c": close, "values": values})


environment = StreamExecutionEnvironment.get_execution_environment()
environment.set_parallelism(1)
source = (
    KafkaSource.builder()
    .set_bootstrap_servers(BROKERS)
    .set_topics(SOURCE)
    .set_group_id("naive")
    .set_starting_offsets(KafkaOffsetsInitializer.earliest())
    .set_value_only_deserializer(SimpleStringSchema())
    .build()
)
sink = (
    KafkaSink.builder()
    .set_bootstrap_servers(BROKERS)
    .set_record_serializer(
        KafkaRecordSerializationSchema.builder().set_topic(SINK).set_value_serialization_schema(SimpleStringSchema()).build()
    )
    .build()
)
(
    environment.from_source(source, WatermarkStrategy.no_watermarks(), "candles")
    .map(json.loads, Types.PICKLED_BYTE_ARRAY())
    .key_by(lambda candle: f"{candle['s']} {candle['i']}", Types.STRING())
    .process(WithIndicators(), Types.STRING())
    .sink_to(sink)
)
environment.execute("naive candles")
