"""Topics as tables of PostgreSQL: `klinestream store postgres`."""
