"""The table of the configuration that workflows have."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from klinestream.runtime.sections import Seconds, Section


class WorkflowConfig(Section):
    """Workflows and their runner: `klinestream workflow`."""

    state_dir: Path = Path(".klinestream/workflows")
    """Folder of what runs have reached and made; who shares it, shares the runs."""
    definitions: Path = Path("workflows")
    """Folder of workflows of your own, NAME.toml each; it need not be there."""
    stop_s: Seconds = 10.0
    """A step that is to end has so long after SIGTERM; then it is killed."""
    keep_runs: Annotated[int, Field(ge=1, le=1000)] = 20
    """Runs of each workflow that are remembered, with their logs and what only they have made."""
    command_age_s: Seconds = 3600.0
    """A command that no runner heard for so long isn't obeyed any more."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9118
    """Prometheus metrics of the runner on this port of `metrics_host`; 0 for none."""
    metrics_host: str = "127.0.0.1"
    """Address the metrics listen on."""
