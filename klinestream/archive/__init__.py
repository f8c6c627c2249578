"""Topics as Parquet files: written exactly once, and proved to be whole."""
