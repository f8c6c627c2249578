"""`klinestream archive` in a process of its own, and what it says when it is asked."""

import os
import signal
import subprocess
from pathlib import Path

from klinestream.archive.files import Files
from klinestream.runtime.config import PREFIX
from klinestream.stack.java import scripts
from tests.stack import TestBroker

_STOP_S = 20
_ONCE_S = 60


class Archive:
    """One over a broker and a folder, that can be started, killed, and asked for its proof."""

    def __init__(self, broker: TestBroker, folder: Path, *topics: str, **settings: float) -> None:
        self.url = str(folder / "files")
        self.log = folder / "archive.log"
        own = {"KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers, "KAFKA__CLIENT": "confluent-kafka", "ARCHIVE__URL": self.url}
        own |= {"ARCHIVE__METRICS_PORT": "0", "ARCHIVE__FILE_S": "1"}
        own |= {"ARCHIVE__TOPICS": "[" + ",".join(f'"{topic}"' for topic in topics) + "]"}
        own |= {f"ARCHIVE__{key}".upper(): str(value) for key, value in settings.items()}
        self._environment = {"PATH": os.environ["PATH"]} | {PREFIX + key: value for key, value in own.items()}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def files(self) -> Files:
        return Files(self.url)

    def rows(self) -> int:
        """How many records stand in files: as their manifests say."""
        return sum(span.end - span.first for topic in self.files.topics() for span in self.files.spans(topic))

    def start(self) -> None:
        with self.log.open("ab") as output:
            command = [str(scripts() / "klinestream"), "archive"]
            self._process = subprocess.Popen(command, cwd=self._folder, env=self._environment, stdout=output, stderr=output)

    def kill(self) -> None:
        """With -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end(self) -> int:
        """By SIGTERM, unless it has ended; its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_STOP_S)

    def wait(self) -> int:
        """Until it ends by itself; its exit code."""
        assert self._process is not None
        return self._process.wait(_STOP_S)

    def ask(self, *arguments: str) -> tuple[int, str]:
        """Run `klinestream archive …` to its end: its exit code, and what it said."""
        return self.ask_any("archive", *arguments)

    def ask_any(self, *arguments: str) -> tuple[int, str]:
        """Run any command of klinestream's with the same configuration."""
        command = [str(scripts() / "klinestream"), *arguments]
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=_ONCE_S, check=False
        )
        return done.returncode, done.stdout + done.stderr
