"""Windows from Kafka into PostgreSQL by Flink's own JDBC sink, as its manual has it. Only to compare with."""

import os

from pyflink.table import EnvironmentSettings, TableEnvironment

BROKERS, TOPIC, URL, USER, PASSWORD, JARS = (
    os.environ[f"BENCH_{name}"] for name in ("BROKERS", "TOPIC", "URL", "USER", "PASSWORD", "JARS")
)
COLUMNS = """
    symbol STRING, window_start BIGINT, window_end BIGINT, `close` DOUBLE, average_price DOUBLE, low DOUBLE, high DOUBLE, volume DOUBLE,
    points BIGINT, rsi DOUBLE, rsi_ready BOOLEAN, since BIGINT, revision BIGINT"""

environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
environment.get_config().set("pipeline.jars", JARS)
environment.get_config().set("parallelism.default", "1")
environment.execute_sql(f"""
    CREATE TABLE windows ({COLUMNS}) WITH (
        'connector' = 'kafka', 'topic' = '{TOPIC}', 'properties.bootstrap.servers' = '{BROKERS}',
        'scan.startup.mode' = 'earliest-offset', 'format' = 'json')""")
environment.execute_sql(f"""
    CREATE TABLE stored ({COLUMNS}, PRIMARY KEY (symbol, window_end) NOT ENFORCED) WITH (
        'connector' = 'jdbc', 'url' = '{URL}?reWriteBatchedInserts=true', 'table-name' = 'jdbc_windows',
        'username' = '{USER}', 'password' = '{PASSWORD}',
        'sink.buffer-flush.max-rows' = '5000', 'sink.buffer-flush.interval' = '500ms')""")
environment.execute_sql("INSERT INTO stored SELECT * FROM windows")
