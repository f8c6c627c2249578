"""The whole local stack for tests, headless, whose parts can be killed while data flows."""

import os
import signal
import threading
from pathlib import Path

from klinestream.cli import up
from klinestream.runtime.config import load
from klinestream.stack.part import State
from klinestream.stack.supervisor import Supervisor
from tests.eventually import eventually
from tests.ports import free_ports

_START_S = 180.0


class TestStack:
    """The whole local stack, as `klinestream up` runs it, supervised by a thread; on free ports, in a folder of its own."""

    __test__ = False

    def __init__(self, folder: Path, symbols: str = "10", also: tuple[str, ...] = (), **tables: dict[str, object]) -> None:
        """Start nothing; `symbols` and `also` as `klinestream up` takes them; `tables` of configuration win over the defaults."""
        names = ("broker_port", "controller_port", "flink_port", "flink_rpc_port", "standin_port")
        *ports, server_port, metrics_port, repair_port, archive_port, proof_port = free_ports(len(names) + 5)
        stack = dict(zip(names, ports, strict=True)) | {"state_dir": str(folder)}
        given = {
            "stack": stack | tables.pop("stack", {}),
            "server": {"port": server_port} | tables.pop("server", {}),
            "producer": {"metrics_port": metrics_port} | tables.pop("producer", {}),
            "repair": {"metrics_port": repair_port} | tables.pop("repair", {}),
            "archive": {"metrics_port": archive_port} | tables.pop("archive", {}),
            "proof": {"metrics_port": proof_port, "stretch_s": 60} | tables.pop("proof", {}),
            # Enough to join history to what is live; more would only be more of the same to prove.
            "candles": {"history": 60} | tables.pop("candles", {}),
        }
        options = up.Options(symbols=symbols)
        self.config = up.effective(load(None, **given, **tables), options)
        self.told: list[str] = []
        self.supervisor = Supervisor(self.config, with_standin=True, tell=self.told.append, also=also)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.supervisor.run, args=(self._stopping,), name="supervisor")

    @property
    def bootstrap_servers(self) -> str:
        """The broker's address."""
        return self.config.kafka.bootstrap_servers

    def start(self, fresh: bool = False) -> None:
        """Start everything; returns when the chart has data."""
        self.launch(fresh)
        self.wait_until_up(_START_S)

    def launch(self, fresh: bool = False) -> None:
        """Start everything; returns at once."""
        self.supervisor.start(fresh)
        self._thread.start()

    def wait_for(self, part: str) -> None:
        """Return when a part is up."""
        eventually(lambda: self._state(part) is State.UP, _START_S, f"{part} is up; told: {self.told}")

    def wait_until_up(self, within_s: float) -> None:
        """Return when every part is up and the chart has fresh data."""

        def flows() -> bool:
            assert all(row.state is State.UP for row in self.supervisor.rows()), self.supervisor.rows()
            return self.supervisor.chart_has_data()

        eventually(flows, within_s, f"the chart has data; told: {self.told}")

    def kill(self, part: str) -> int:
        """Kill a part with -9 and return the process id that it had; the supervisor brings it back."""
        pid = self.supervisor.pids()[part]
        os.kill(pid, signal.SIGKILL)
        return pid

    def _state(self, part: str) -> State | None:
        return next((row.state for row in self.supervisor.rows() if row.name == part), None)

    def stop(self) -> None:
        """End everything; once is enough."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.supervisor.stop()
