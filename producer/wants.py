"""What a series lacks, as a request to REST."""

from dataclasses import dataclass

from producer.feeds.interface import Want


@dataclass(frozen=True, slots=True)
class WantRequest:
    """One request of `Feed.fetch`."""

    want: Want
    deferred: bool = False
    """The feed went on without it: its answer is for the repairs."""

    @property
    def symbol(self) -> str:
        """Whose entries it asks for."""
        return self.want.symbol

    @property
    def urgent(self) -> bool:
        """Live entries are held until it is answered."""
        return self.want.urgent

    @property
    def span(self) -> tuple[object, ...]:
        """What it asks for."""
        return self.want.symbol, self.want.from_id, self.want.to_id, self.want.cursor, self.deferred

    @property
    def order(self) -> int:
        """The oldest record after which something is missing comes first."""
        return self.want.after_ms or 0

    @property
    def weight(self) -> int:
        """What the venue counts it as."""
        return self.want.weight
