"""Topics on a broker: made as `market/topics.py` defines them, compared with it, and measured. Any Kafka, SASL and TLS included."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError, RetriableError, TopicAlreadyExistsError, UnknownTopicOrPartitionError

from klinestream.market.errors import BrokerError
from klinestream.market.topics import Topic
from klinestream.runtime.kafka.delivery import UnreachableError, connected
from klinestream.runtime.kafka.kafka_python import connection_settings
from klinestream.runtime.sections import KafkaConfig

_REQUEST_MS = 15_000
_NO_ID = "00000000-0000-0000-0000-000000000000"
_NOT_FOR_ADMIN = ("allow_auto_create_topics", "metrics_enabled")


@dataclass(frozen=True, slots=True)
class Existing:
    """A topic as the broker has it: its number of partitions, and all settings in force."""

    partitions: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a topic has come: records ever written, and the newest record's time, -1 while it is empty."""

    records: int
    newest_ms: int


class TopicAdmin:
    """Makes and looks at topics. Every method raises BrokerError; use it as a context manager, or close it."""

    def __init__(self, config: KafkaConfig) -> None:
        """Connect; keeps trying for `config.connect_timeout_s`."""
        self._config = config
        settings = {key: value for key, value in connection_settings(config, "klinestream-topics").items() if key not in _NOT_FOR_ADMIN}
        self._admin: Any = connected(lambda: _reached(settings), config)

    def __enter__(self) -> "TopicAdmin":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._admin.close()

    def existing(self, topics: Sequence[Topic]) -> dict[str, Existing]:
        """Those of `topics` that the broker has, by name."""
        found = self._existing(self._named(topics))
        return {name.removeprefix(self._config.topic_prefix): there for name, there in found.items()}

    def _named(self, topics: Sequence[Topic]) -> list[Topic]:
        """As the broker knows them."""
        return [replace(topic, name=self._config.topic_prefix + topic.name) for topic in topics]

    def _existing(self, topics: Sequence[Topic]) -> dict[str, Existing]:
        with self._asking("list topics"):
            there = set(self._admin.list_topics()) & {topic.name for topic in topics}
            if not there:
                return {}
            partitions = {topic["name"]: len(topic["partitions"]) for topic in self._admin.describe_topics(sorted(there))}
            resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in sorted(there)]
            settings = self._admin.describe_configs(resources, config_filter="all")["topic"]
        return {name: Existing(partitions[name], {key: str(held["value"]) for key, held in settings[name].items()}) for name in there}

    def identities(self, topics: Sequence[Topic]) -> dict[str, str]:
        """Those of `topics` that the broker has → an id that no other topic ever has, one made anew under the name included.

        Brokers older than 2.8 give topics no ids: there it is cluster and name.
        """
        named = {self._config.topic_prefix + topic.name: topic.name for topic in topics}
        with self._asking("look up topics"):
            there = sorted(set(self._admin.list_topics()) & named.keys())
            described = self._admin.describe_topics(there) if there else []
            ids = {topic["name"]: str(topic.get("topic_id") or _NO_ID) for topic in described}
            cluster = self._admin.describe_cluster()["cluster_id"] if _NO_ID in ids.values() else ""
        return {named[name]: f"{cluster}/{name}" if topic_id == _NO_ID else topic_id for name, topic_id in ids.items()}

    def create(self, topics: Sequence[Topic]) -> list[str]:
        """Make the topics that are missing, and return their names; what exists is left as it is."""
        named = self._named(topics)
        there = self._existing(named)
        missing = [topic for topic in named if topic.name not in there]
        made = []
        with self._asking("create topics"):
            for topic in missing:
                try:
                    self._admin.create_topics(
                        {topic.name: {"num_partitions": topic.partitions, "configs": topic.settings()}}, wait_for_metadata=True
                    )
                    made.append(topic.name.removeprefix(self._config.topic_prefix))
                except TopicAlreadyExistsError:
                    continue  # somebody else was faster; `check` tells whether it is the same topic
        return made

    def bounds(self, topics: Sequence[Topic]) -> dict[str, dict[int, tuple[int, int]]]:
        """Topic → partition → first offset held, and offset after the last that readers may see; a topic that does not exist is left out.

        In one answer for all. A reader's own `bounds` asks for each partition, and waits each time for what it is fetching.
        """
        named = {self._config.topic_prefix + topic.name: topic.name for topic in topics}
        with self._asking("look up offsets"):
            there = sorted(set(self._admin.list_topics()) & named.keys())
            described = self._admin.describe_topics(there) if there else []
            places = [TopicPartition(topic["name"], part["partition_index"]) for topic in described for part in topic["partitions"]]
            firsts, ends = (
                self._admin.list_partition_offsets(dict.fromkeys(places, spec), "read_committed") if places else {}
                for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
            )
        found: dict[str, dict[int, tuple[int, int]]] = {named[name]: {} for name in there}
        for place in places:
            found[named[place.topic]][place.partition] = (firsts[place].offset, ends[place].offset)
        return found

    def positions(self, topics: Sequence[Topic]) -> dict[str, Position]:
        """How far each topic has come; a topic that does not exist is left out."""
        prefix = self._config.topic_prefix
        places = [TopicPartition(prefix + topic.name, partition) for topic in topics for partition in range(topic.partitions)]
        with self._asking("look up offsets"):
            try:
                ends = self._admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
                newest = self._admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.MAX_TIMESTAMP))
            except UnknownTopicOrPartitionError:
                return {}
        return {
            topic.name: Position(
                sum(ends[place].offset for place in places if place.topic == prefix + topic.name),
                max(newest[place].timestamp for place in places if place.topic == prefix + topic.name),
            )
            for topic in topics
        }

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise BrokerError(
                f"Kafka at {self._config.bootstrap_servers} could not {what}: {error}; check the broker and this user's rights"
            ) from None


def differences(topics: Sequence[Topic], existing: Mapping[str, Existing]) -> list[str]:
    """What is not as defined, a line a difference: the topic, what was expected, what it is, and what to do.

    The number of partitions is never changed: a symbol's place in the feed depends on it.
    """
    found = []
    for topic in topics:
        there = existing.get(topic.name)
        if there is None:
            found.append(f"{topic.name}: expected, but it does not exist; run `klinestream topics create`")
            continue
        if there.partitions != topic.partitions:
            found.append(
                f"{topic.name}: expected {topic.partitions} partitions, it has {there.partitions}; they can't be changed, "
                "a symbol's place depends on them: replay it into a topic made anew"
            )
        found += [
            f"{topic.name}: expected {key}={wanted}, it is {there.settings.get(key, 'unknown')}; set it with Kafka's kafka-configs tool"
            for key, wanted in topic.settings().items()
            if there.settings.get(key) != wanted
        ]
    return found


def _reached(settings: Mapping[str, Any]) -> Any:
    try:
        return KafkaAdminClient(**settings, request_timeout_ms=_REQUEST_MS)
    except RetriableError as error:
        raise UnreachableError(str(error)) from None
    except KafkaError as error:
        raise BrokerError(f"Kafka at {settings['bootstrap_servers']} refused the connection: {error}") from None
