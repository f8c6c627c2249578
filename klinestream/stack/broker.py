"""A real Kafka broker in one process: KRaft, broker and controller in one, on localhost."""

import base64
import json
import uuid
from pathlib import Path

from klinestream.stack import jars
from klinestream.stack.java import java
from klinestream.stack.layout import Layout
from klinestream.stack.process import Command

_HOST = "127.0.0.1"
# Page cache, not heap, holds what is read and written.
_HEAP = "-Xmx320m"
_MEMORY = (_HEAP, "-XX:+UseSerialGC", "-XX:MaxMetaspaceSize=96m", "-XX:ReservedCodeCacheSize=64m", "-Xshare:auto")
# The optimising compiler begins ten times later than by default: while all parts start at once it took a third of the broker's
# processor time, for code that runs once. What is hot passes these counts in its first second of load.
_COMPILER = tuple(
    f"-XX:Tier4{what}={count}"
    for what, count in {
        "InvocationThreshold": 50_000,
        "MinInvocationThreshold": 6000,
        "CompileThreshold": 150_000,
        "BackEdgeThreshold": 400_000,
    }.items()
)


def prepare(layout: Layout, port: int, controller_port: int) -> None:
    """Write the properties. The jars must be there, and the data folder formatted before the broker starts."""
    (layout.kafka / "server.properties").write_text(_properties(layout.kafka / "data", port, controller_port))


def is_formatted(layout: Layout) -> bool:
    """The data folder is a broker's already."""
    return (layout.kafka / "data" / "meta.properties").exists()


def command(layout: Layout) -> Command:
    """Run the broker in the foreground; SIGTERM ends it cleanly."""
    return Command(
        "broker",
        (
            str(java()),
            *_MEMORY,
            *_COMPILER,
            f"-Dkafka.logs.dir={layout.logs}",
            f"-Dlog4j2.configurationFile={Path(__file__).with_name('broker-log4j2.properties')}",
            "-cp",
            jars.broker_classpath(layout.jars),
            "kafka.Kafka",
            str(layout.kafka / "server.properties"),
        ),
    )


def bootstrap(port: int) -> str:
    """The bootstrap servers of a broker on this port."""
    return f"{_HOST}:{port}"


def format_command(layout: Layout) -> Command:
    """Format the data folder, once in its life."""
    # A fixed first byte: an id that began with "-" would be taken for an option.
    cluster_id = base64.urlsafe_b64encode(b"\x92" + uuid.uuid4().bytes[1:]).rstrip(b"=").decode()
    # A compiler that only knows its first tier starts faster; the tool lives for a second.
    tool = (str(java()), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dlog4j2.level=warn", "-cp", jars.broker_classpath(layout.jars))
    arguments = ("format", "--cluster-id", cluster_id, "--config", str(layout.kafka / "server.properties"))
    return Command("format", (*tool, "kafka.tools.StorageTool", *arguments))


def _properties(data: Path, port: int, controller_port: int) -> str:
    # Java reads this file as Latin-1, with escapes as JSON has them: as it is, an umlaut would name a folder beside the stack's.
    folder = json.dumps(str(data))[1:-1]
    return f"""\
# Written anew at each start.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{_HOST}:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{_HOST}:{port},CONTROLLER://{_HOST}:{controller_port}
advertised.listeners=PLAINTEXT://{_HOST}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}

# Topics are made on purpose, by `klinestream topics create`.
auto.create.topics.enable=false

# One broker is all there is.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1

# A group of one has nobody to wait for.
group.initial.rebalance.delay.ms=0
# A broker that was killed comes back as soon as it is there, not when its former session has run out.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500

# Bounds: retention is looked after every minute; the cleaner's buffer would else take 128 MB of heap.
log.retention.check.interval.ms=60000
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.threads=1
metadata.log.segment.bytes=8388608
metadata.max.retention.bytes=33554432
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
"""
