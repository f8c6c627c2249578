"""Where the server finds the topics: a named collection of its configuration, or a broker written into the SQL.

What is secret stands in the server's configuration alone (deploy/clickhouse/kafka.xml takes it from the environment); the SQL
can be shown, kept and mounted.
"""

from dataclasses import dataclass

from klinestream.market.tables import Table
from klinestream.stores.clickhouse.columns import quoted, text

COLLECTION = "klinestream_kafka"


@dataclass(frozen=True, slots=True)
class Source:
    """How topics are read. `broker` is empty where the collection names it.

    `flush_ms`: rows are in their table this long after their message at most, and each time makes a part on disk.
    """

    broker: str = ""
    collection: str = COLLECTION
    group: str = "klinestream-clickhouse"
    topic_prefix: str = ""
    consumers: int = 1
    flush_ms: int = 1000

    def clauses(self, table: Table) -> dict[str, str]:
        """The Kafka engine's argument and settings for a table's topic."""
        settings = {
            "kafka_topic_list": text(self.topic_prefix + table.topic.name),
            # A group a table: one that is made anew from the beginning (another group) takes no other with it.
            "kafka_group_name": text(f"{self.group}-{table.name}"),
            "kafka_format": "'RawBLOB'",
            "kafka_num_consumers": str(self.consumers),
            "kafka_thread_per_consumer": "1",
            "kafka_flush_interval_ms": str(self.flush_ms),
        }
        if self.broker:
            settings = {"kafka_broker_list": text(self.broker)} | settings
        return {
            "collection": "" if self.broker else f"({quoted(self.collection)})",
            "settings": ",\n    ".join(f"{name} = {value}" for name, value in settings.items()),
        }
