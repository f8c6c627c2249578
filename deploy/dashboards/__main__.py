"""`python -m deploy.dashboards [FOLDER]`: write every dashboard as the file that Grafana is provisioned with."""

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.dashboards import aggregates, health, market, signals
from deploy.dashboards.board import Board

FOLDER = Path(__file__).parents[1] / "grafana" / "provisioning" / "dashboards"


def boards() -> tuple[Board, ...]:
    """Every dashboard."""
    return market.board(), signals.board(), aggregates.board(), health.board()


def files() -> dict[str, str]:
    """Name of each file → what stands in it."""
    return {f"{board.uid}.json": JSONEncoder(indent=2, sort_keys=True).encode(board.build()) + "\n" for board in boards()}


def main(folder: Path) -> None:
    """Write them all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
