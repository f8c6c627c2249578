"""The proof of a whole stack's output once more, from its archive: `klinestream verify replay` over all that it lived through."""

import os
import subprocess
from collections import Counter

import orjson

from klinestream.stack import plans
from klinestream.stack.commands import configuration
from klinestream.stack.java import scripts
from klinestream.stack.layout import Layout
from tests.whole_stack import TestStack


def prove_replay(stack: TestStack, but_last_s: int) -> Counter[str]:
    """Topic → how many archived records are what a replay gives; of the last seconds not all may stand in files. Raises AssertionError."""
    config = plans.with_archive(stack.config, Layout(stack.config.stack.state_dir))
    told = {"KLINESTREAM_PROOF__AFTER_S": str(but_last_s), "KLINESTREAM_PROOF__KEEP_SNAPSHOTS": "0"}
    command = [str(scripts() / "klinestream"), "verify", "replay", "--json"]
    done = subprocess.run(command, env=os.environ | configuration(config) | told, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
    equal = Counter[str]()
    for stretch in orjson.loads(done.stdout)["stretches"]:
        equal.update({topic: found["equal"] for topic, found in stretch["topics"].items()})
    return equal
