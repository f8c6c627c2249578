"""The PyFlink jobs: the JVM moves bytes, Python computes whole batches with the engine."""
