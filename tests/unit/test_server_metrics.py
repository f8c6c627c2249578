"""What the server tells Prometheus."""

import pytest

from server.metrics import Metrics

STARTED_MS = 1_700_000_000_000


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(STARTED_MS)


def age_s(metrics: Metrics, newest_end_ms: int | None, after_s: float) -> float | None:
    """The data's age as it is told so long after the start."""
    metrics.show_history(newest_end_ms, 0, STARTED_MS + round(after_s * 1000))
    return metrics.registry.get_sample_value("klinestream_server_data_age_seconds")


def test_data_is_as_old_as_the_newest_window(metrics: Metrics) -> None:
    """Now less its end."""
    assert age_s(metrics, STARTED_MS + 500, 2) == 1.5


def test_a_server_without_a_window_is_not_fresh(metrics: Metrics) -> None:
    """Its age is the time since it started, so the one that holds nothing can't hide that windows have stopped."""
    assert age_s(metrics, None, 20) == 20
    assert age_s(metrics, None, 60) == 60


def test_a_server_that_reads_anew_goes_on_from_the_last_window_that_it_told(metrics: Metrics) -> None:
    """Reading that begins again and again, and finds nothing, is no fresh data either."""
    assert age_s(metrics, STARTED_MS + 5_000, 6) == 1
    assert age_s(metrics, None, 36) == 31
