"""Benchmarks: `make bench`. They print a table and write JSON to bench/results/; nothing in the test suite asserts a speed."""
