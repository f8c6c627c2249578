#!/usr/bin/env python3
"""Whether this container is well: exit code 0 if HEALTH_URL answers with 200, or if nothing is named there; else 1, and why.

With HEALTH_JOB the address is that of a Flink cluster, and a job of that name must run there. Nothing but Python's own library: it is
started every few seconds, and is done in a tenth of one.
"""

import json
import os
import sys
from urllib.error import URLError
from urllib.request import urlopen

TIMEOUT_S = 4


def complaint(url: str, job: str) -> str:
    """What is wrong; empty if nothing is."""
    try:
        with urlopen(f"{url}/jobs/overview" if job else url, timeout=TIMEOUT_S) as answer:  # noqa: S310  # the address is the operator's
            if not job:
                return ""
            running = [found["name"] for found in json.load(answer)["jobs"] if found["state"] == "RUNNING"]
    except (URLError, OSError, ValueError) as error:
        return f"expected an answer with 200 from {url}, got: {error}"
    return "" if job in running else f"expected the job {job!r} to run at {url}, but these do: {', '.join(running) or 'none'}"


if __name__ == "__main__":
    address = os.environ.get("HEALTH_URL", "")
    sys.exit(complaint(address, os.environ.get("HEALTH_JOB", "")) or 0 if address else 0)
