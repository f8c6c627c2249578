"""What axe-core finds on a page, for the tests of every page."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_GRAVE = ("serious", "critical")
_END_ANIMATIONS = """() => {
    for (const animation of document.getAnimations()) if (Number.isFinite(animation.effect.getComputedTiming().endTime)) animation.finish();
}"""


def assert_accessible(page: Page) -> None:
    """Fail with each serious or critical finding: the rule, the elements, and what to do.

    Animations are ended first: a colour half way to another one has no contrast of its own.
    """
    page.evaluate(_END_ANIMATIONS)
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    grave = [_told(finding) for finding in found if finding["impact"] in _GRAVE]
    assert not grave, "\n".join(grave)


def _told(finding: dict[str, Any]) -> str:
    places = "; ".join(f"{node['html'][:160]}: {node['failureSummary']}" for node in finding["nodes"])
    return f"{finding['impact']} {finding['id']}, {finding['help']} ({finding['helpUrl']}): {places}"
