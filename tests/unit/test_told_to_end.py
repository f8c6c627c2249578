"""Being told to end by signals, however many come at once."""

import subprocess
import sys

WITHIN_S = 60
# Signals come as fast as another process sends them, while this one looks at the event all the time.
SCRIPT = """
import os, subprocess, sys
from klinestream.runtime.signals import told_to_end

SENDS = "import os, signal\\nfor _ in range(100_000): os.kill({}, signal.SIGTERM)"
with told_to_end() as ending:
    sender = subprocess.Popen([sys.executable, "-c", SENDS.format(os.getpid())])
    while sender.poll() is None:
        ending.wait(0)
    assert ending.wait(10)
print("ended")
"""


def test_signals_that_come_together_end_it_once() -> None:
    """A handler may interrupt whoever holds the event's lock, another handler too: neither waits for the other for ever."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
