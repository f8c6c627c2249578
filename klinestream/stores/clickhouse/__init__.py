"""Topics as tables of ClickHouse: `klinestream store clickhouse` prints the SQL, and the server itself reads the topics."""
