"""What Deque's axe-core finds wrong with a page for people who do not see it, do not use a mouse, or see it badly."""

from functools import cache
from typing import Final

from playwright.sync_api import Page

from tests.support import programs

PACKAGE: Final = "axe-core"
_STANDARDS: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
#: The rules that colours and the width of the window make a difference to.
_LOOKS: Final = ["color-contrast", "target-size", "scrollable-region-focusable"]
_RUN: Final = """async (chosen) => {
    const found = await axe.run(document, {runOnly: chosen, resultTypes: ["violations"]});
    return found.violations.flatMap((rule) => rule.nodes.map((node) =>
        `${rule.id} (${rule.impact}): ${node.target.join(" ")}: ${node.failureSummary.replace(/\\s+/g, " ")}`));
}"""


def need_axe() -> None:
    programs.need_node(PACKAGE)


def violations(page: Page, *, looks_only: bool = False) -> list[str]:
    """Each as `rule (impact): selector: what to do`. The page has scripts on, and its policy does not bind this."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_source())
    return [str(each) for each in page.evaluate(_RUN, _LOOKS if looks_only else _STANDARDS)]


@cache
def _source() -> str:
    return programs.node_file(PACKAGE, "axe.min.js").read_text()
