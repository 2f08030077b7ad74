"""Pages of the console that no link leads to: answers to forms, refusals, what is open or empty."""

from collections.abc import Callable
from typing import Final

from playwright.sync_api import Page

Lead = Callable[[Page], object]


def _press(page: Page, name: str) -> None:
    page.get_by_role("main").get_by_role("button", name=name, exact=True).click()


def _open_first(page: Page, kind: str) -> None:
    page.goto(f"/console/{kind}/")
    page.get_by_role("main").locator("tbody th a").first.click()


def the_secret(page: Page) -> None:
    page.goto("/console/keys/new/?tenant=tenant-0")
    page.get_by_label("Name").fill("pictured")
    _press(page, "Create key")
    page.get_by_label("The secret").wait_for()


def a_rotated_secret(page: Page) -> None:
    page.goto("/console/keys/?q=pick-planner")
    page.get_by_role("main").locator("tbody th a").first.click()
    page.get_by_role("link", name="Rotate…").click()
    _press(page, "Rotate and show the new secret")
    page.get_by_label("The secret").wait_for()


def a_limited_key(page: Page) -> None:
    page.goto("/console/keys/?q=pick-planner")
    page.get_by_role("main").locator("tbody th a").first.click()
    page.get_by_role("heading", name="Limits", exact=True).wait_for()


def a_form_with_faults(page: Page) -> None:
    page.goto("/console/keys/new/?tenant=tenant-0")
    page.get_by_label("Requests a minute").fill("many")
    page.get_by_label("Burst").fill("1.5")
    page.get_by_label("Allowed addresses").fill("nowhere")
    _press(page, "Create key")


def a_price_in_the_past(page: Page) -> None:
    _open_first(page, "models")
    page.get_by_role("link", name="Add a price…").click()
    page.get_by_label("From").fill("2020-01-01T00:00")
    page.get_by_label("Input, USD per million tokens").fill("1")
    page.get_by_label("Output, USD per million tokens").fill("2")
    _press(page, "Add the price")


def a_tested_provider(page: Page) -> None:
    _open_first(page, "providers")
    _press(page, "Test connection")


def imported_models(page: Page) -> None:
    _open_first(page, "providers")
    page.get_by_role("link", name="Import models").first.click()
    _press(page, "Import")


def a_verified_chain(page: Page) -> None:
    page.goto("/console/audit/")
    _press(page, "Verify the chain")


def an_open_audit_row(page: Page) -> None:
    page.goto("/console/audit/?action=tenant.updated")
    page.locator("details.audit-row summary").first.click()


def the_account_menu(page: Page) -> None:
    page.goto("/console/keys/")
    page.locator("summary", has_text="account menu").click()


def a_row_menu(page: Page) -> None:
    page.goto("/console/keys/")
    page.locator("tbody summary").first.click()


def _at(address: str) -> Lead:
    return lambda page: page.goto(address)


#: By name, each with the way there for somebody who is signed in to the world of `world.furnish`.
OCCASIONS: Final[dict[str, Lead]] = {
    "secret": the_secret,
    "secret-rotated": a_rotated_secret,
    "key-with-limits": a_limited_key,
    "form-with-faults": a_form_with_faults,
    "price-in-the-past": a_price_in_the_past,
    "provider-tested": a_tested_provider,
    "models-imported": imported_models,
    "audit-verified": a_verified_chain,
    "audit-row-open": an_open_audit_row,
    "menu-open": the_account_menu,
    "row-menu-open": a_row_menu,
    "search": _at("/console/search/?q=o"),
    "search-without-result": _at("/console/search/?q=zzz"),
    "not-found": _at("/console/keys/00000000-0000-0000-0000-000000000000/"),
    "bad-filter": _at("/console/requests/?since=yesterday"),
    "nothing-matches": _at("/console/keys/?q=zzz"),
}
#: An open menu lies over what is below it.
OVERLAID: Final = {"menu-open", "row-menu-open"}
