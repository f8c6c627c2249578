"""The windows job as one would write it first: one Python call a record. Only to compare with."""

import json
import os

from pyflink.common import SimpleStringSchema, Types, WatermarkStrategy
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.connectors.kafka import KafkaOffsetsInitializer, KafkaRecordSerializationSchema, KafkaSink, KafkaSource
from pyflink.datastream.functions import AggregateFunction, KeyedProcessFunction, ProcessWindowFunction, RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor
from pyflink.datastream.window import SlidingEventTimeWindows, Time

BROKERS, SOURCE, SINK = (os.environ[f"BENCH_{name}"] for name in ("BROKERS", "SOURCE", "SINK"))


class Mean(AggregateFunction):
    """Sum and count of closes."""

    def create_accumulator(self) -> tuple[float, int]:
        return 0.0, 0

    def add(self, value: dict, accumulator: tuple[float, int]) -> tuple[float, int]:
        return accumulator[0] + float(value["c"]), accumulator[1] + 1

    def get_result(self, accumulator: tuple[float, int]) -> tuple[float, int]:
        return accumulator

    def merge(self, a: tuple[float, int], b: tuple[float, int]) -> tuple[float, int]:
        return a[0] + b[0], a[1] + b[1]


class WithWindow(ProcessWindowFunction):
    """(symbol, window end, average)."""

    def process(self, key, context, elements):
        total, points = next(iter(elements))
        yield key, context.window().end, total / points


class WithRsi(KeyedProcessFunction):
    """Wilder's RSI of the averages, one symbol and one window at a time."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.state = runtime_context.get_state(ValueStateDescriptor("rsi", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, value, _context):
        symbol, end, average = value
        previous, up, down, changes = self.state.value() or (average, 0.0, 0.0, -1)
        change, changes = average - previous, changes + 1
        gain, loss = max(change, 0.0), max(-change, 0.0)
        if changes <= 14:
            up, down = up + gain / 14, down + loss / 14
        else:
            up, down = up + (gain - up) / 14, down + (loss - down) / 14
        self.state.update((average, up, down, changes))
        rsi = None if changes < 14 else 50.0 if up + down == 0 else 100 * up / (up + down)
        yield json.dumps({"symbol": symbol, "window_end": end, "average_price": average, "rsi": rsi})


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
# By the records' own timestamps, in the source: so each partition has a watermark of its own, and none makes another's records late.
watermarks = WatermarkStrategy.for_monotonous_timestamps()
sink = (
    KafkaSink.builder()
    .set_bootstrap_servers(BROKERS)
    .set_record_serializer(
        KafkaRecordSerializationSchema.builder().set_topic(SINK).set_value_serialization_schema(SimpleStringSchema()).build()
    )
    .build()
)
(
    environment.from_source(source, watermarks, "klines")
    .map(json.loads, Types.PICKLED_BYTE_ARRAY())
    .key_by(lambda kline: kline["s"], Types.STRING())
    .window(SlidingEventTimeWindows.of(Time.milliseconds(3000), Time.milliseconds(500)))
    .aggregate(
        Mean(), WithWindow(), Types.TUPLE([Types.DOUBLE(), Types.INT()]), Types.TUPLE([Types.STRING(), Types.LONG(), Types.DOUBLE()])
    )
    .key_by(lambda row: row[0], Types.STRING())
    .process(WithRsi(), Types.STRING())
    .sink_to(sink)
)
environment.execute("naive windows")
