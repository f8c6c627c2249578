"""Workflows: steps in order, each a command of klinestream, that go on where they were interrupted."""
