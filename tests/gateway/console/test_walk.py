"""The console in a real browser, before a real server: a first day there, with scripts and without; and every page of it as
somebody finds it who does not see it, has no mouse, or holds a telephone.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from playwright.sync_api import Error as BrowserError

from tests.gateway import door as doors
from tests.gateway.console import world
from tests.gateway.console.occasions import OCCASIONS, OVERLAID
from tests.support import axe, environment, services
from tests.support import browser as browsers
from tests.support.browser import PATIENCE_MS, Visit
from tests.support.oracle import Oracle
from tests.support.server import Server, Yard

# Which database it is makes no difference to who sits before the screen.
pytestmark = pytest.mark.sqlite

OPERATOR = "morning-shift"
NEW_PASSWORD = "a kettle, a map and two keys"
UPSTREAM_SECRET = "sk-upstream-walks-by-6d1f"
MODEL = "walked"
ANSWER_SECONDS = 60.0
#: What WCAG 2.2 asks a page to fit into (1.4.10), in CSS pixels: a window of 1280 at a zoom of 400 %.
NARROWEST = 320
WINDOWS: Final[Sequence[tuple[int, Literal["light", "dark"]]]] = (
    (1280, "light"),
    (NARROWEST, "dark"),
)
Place = Literal["main", "navigation"]
MANY_STEPS = 60
FOCUSED = {
    "name": "document.activeElement.name || document.activeElement.innerText.trim()",
    "ring": "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
    " && parseFloat(getComputedStyle(document.activeElement).outlineWidth) >= 2",
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    browsers.need_chromium()
    expect.set_options(timeout=PATIENCE_MS)
    with browsers.chromium() as running:
        yield running


@dataclass
class Walk:
    """The steps of that day. Each leaves the browser where the next one begins."""

    visit: Visit
    oracle: Oracle

    @property
    def page(self) -> Page:
        return self.visit.page

    # Movements: fields by their labels, buttons and links by their names, as somebody who only hears the page would

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def follow(self, name: str | re.Pattern[str], *, within: Place = "main") -> None:
        self.page.get_by_role(within).get_by_role("link", name=name).first.click()

    def fill(self, fields: dict[str, str]) -> None:
        for label, value in fields.items():
            self.field(label).first.fill(value)

    def field(self, label: str) -> Locator:
        return self.page.get_by_label(re.compile(rf"^{re.escape(label)}( \(optional\))?$"))

    def arrive_at(self, heading: str) -> None:
        expect(self.page.get_by_role("heading", level=1, name=heading, exact=True)).to_be_visible()

    # Steps

    def sign_in_and_choose_a_password(self, first: str) -> None:
        self.visit.sign_in(OPERATOR, first)
        self.arrive_at("Choose your password")
        self.page.goto("/console/keys/")
        self.arrive_at("Choose your password")
        self.fill({"Current password": first, "New password": NEW_PASSWORD})
        self.fill({"New password, once more": NEW_PASSWORD})
        self.press("Change password")
        self.arrive_at("Overview")

    def add_a_provider(self) -> None:
        self.follow("Add a provider")
        self.follow("OpenAI-compatible server")
        self.fill({"Name": "oracle", "Base URL": self.oracle.api, "Credential": UPSTREAM_SECRET})
        self.press("Create provider")
        self.arrive_at("oracle")

    def test_its_connection(self) -> None:
        self.press("Test connection")
        self.arrive_at("Test of oracle")
        expect(self.readout("Upstream’s status")).to_contain_text("200")
        assert self.oracle.calls[-1].header("authorization") == f"Bearer {UPSTREAM_SECRET}"
        self.follow("Back to oracle")

    def add_a_model_with_a_price(self) -> None:
        self.follow("New model")
        self.fill({"Public id": MODEL, "Upstream model": "ok"})
        self.press("Create model")
        self.arrive_at(MODEL)
        self.follow("Set a price")
        self.fill({"Input, USD per million tokens": "1", "Output, USD per million tokens": "2"})
        self.press("Add the price")
        self.arrive_at(MODEL)

    def make_a_tenant(self) -> None:
        self.follow("Tenants", within="navigation")
        self.follow("New tenant")
        self.fill({"Name": "Walkers", "Slug": "walkers"})
        self.press("Create tenant")
        self.arrive_at("Walkers")

    def issue_a_key(self) -> str:
        """The curl line that is shown beside it."""
        self.follow("New key")
        self.fill({"Name": "first steps"})
        self.press("Create key")
        self.arrive_at("The secret of first steps")
        return self.leave_the_secret()

    def leave_the_secret(self) -> str:
        """Note what is shown this once, go on, and find nothing of it on the way back."""
        secret = self.page.get_by_label("The secret").inner_text()
        line = self.page.locator("#curl").inner_text()
        assert re.fullmatch(r"gwk_\w{40,}", secret)
        assert secret in line
        self.follow("I stored it; done")
        self.arrive_at("first steps")
        address = self.page.url
        # Nothing is kept of the answer to a form: Chromium could only ask whether to send it again.
        with pytest.raises(BrowserError, match="ERR_CACHE_MISS"):
            self.page.go_back()
        expect(self.page).to_have_url(re.compile("^chrome-error:"))
        assert secret not in self.page.content()
        self.page.goto(address)
        assert secret not in self.page.content()
        return line

    def find_the_call_in_the_log(self) -> None:
        self.follow("Requests", within="navigation")
        row = self.page.get_by_role("row").filter(has_text=MODEL)
        wait_until(lambda: row.count() > 0, meanwhile=self.page.reload)
        row.first.get_by_role("link").first.click()
        expect(self.readout("Attempts")).to_contain_text("last at oracle")
        expect(self.readout("Cost")).to_contain_text("counted by the provider")

    def rotate(self) -> str:
        """The curl line with the new secret."""
        self.open_the_key()
        self.follow("Rotate…")
        self.arrive_at("Rotate the secret of first steps?")
        expect(self.page.get_by_role("radio", checked=True)).to_have_count(1)
        self.press("Rotate and show the new secret")
        self.arrive_at("The new secret of first steps")
        line = self.leave_the_secret()
        expect(self.page.get_by_role("main")).to_contain_text("An old secret works until")
        return line

    def revoke(self) -> None:
        self.open_the_key()
        self.follow("Revoke…")
        self.arrive_at("Revoke first steps?")
        asked = self.page.get_by_label("Type the prefix")
        label = self.page.locator("label", has_text="Type the prefix").inner_text()
        self.press("Revoke for good")
        expect(asked).to_have_attribute("aria-invalid", "true")
        asked.fill(label.rpartition(" ")[2])
        self.press("Revoke for good")
        expect(self.page.get_by_role("heading", name="Revoked for good")).to_be_visible()

    def sign_out(self) -> None:
        self.page.locator("summary", has_text="account menu").click()
        self.press("Sign out")
        self.arrive_at("Sign in")
        self.page.go_back()
        self.page.goto("/console/keys/")
        self.arrive_at("Sign in")

    def open_the_key(self) -> None:
        self.follow("Keys", within="navigation")
        self.follow(re.compile("^first steps"))
        self.arrive_at("first steps")

    def readout(self, name: str) -> Locator:
        return self.page.locator(".readout").filter(has=self.page.get_by_text(name, exact=True))


def wait_until(happened: Callable[[], bool], *, meanwhile: Callable[[], object]) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while not happened():
        assert time.monotonic() < deadline, f"not within {ANSWER_SECONDS} s"
        meanwhile()


def answer_to(line: str) -> str:
    """Paste a line into a shell, as it is."""
    done = subprocess.run(  # noqa: S602 - that is what the line is for
        line,
        shell=True,
        env=environment.clean(os.environ),
        capture_output=True,
        text=True,
        timeout=ANSWER_SECONDS,
        check=True,
    )
    return done.stdout


def is_served(line: str) -> bool:
    return "choices" in json.loads(answer_to(line))


def made_operator(server: Server) -> str:
    """The password that the command shows, once."""
    made = server.manage("operator", "create", "--username", OPERATOR, "--role", "operator")
    return str(made["password"])


@pytest.mark.slow
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_the_first_day_from_signing_in_to_a_revoked_key(
    chromium: Browser, gatehouse: Callable[..., Server], oracle: Oracle, scripts: bool
) -> None:
    if shutil.which("curl") is None:
        services.absent("curl is not installed, and the line that the console shows is for it")
    server = gatehouse()
    first_password = made_operator(server)
    visit = Visit(chromium, server.url, scripts=scripts)
    walk = Walk(visit, oracle)
    walk.sign_in_and_choose_a_password(first_password)
    walk.add_a_provider()
    walk.test_its_connection()
    walk.add_a_model_with_a_price()
    walk.make_a_tenant()
    old = walk.issue_a_key()
    assert is_served(old)
    walk.find_the_call_in_the_log()
    new = walk.rotate()
    assert is_served(old)
    assert is_served(new)
    walk.revoke()
    assert not is_served(old)
    assert not is_served(new)
    walk.sign_out()
    visit.close()
    assert visit.faults == []


# --- every page -------------------------------------------------------------------------------------------------------


def faults_of(page: Page) -> list[str]:
    """As a wide window in light colours, and as a telephone in dark ones."""
    found = []
    for width, scheme in WINDOWS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        looks_only = scheme == "dark"
        found += [f"{width} {scheme}: {it}" for it in axe.violations(page, looks_only=looks_only)]
        if page.evaluate("document.scrollingElement.scrollWidth") > width:
            found.append(f"{width}: the page scrolls to the side")
    page.set_viewport_size({"width": 1280, "height": 900})
    return found


@pytest.mark.slow
def test_every_page_serves_who_cannot_see_it_and_fits_the_smallest_window(
    chromium: Browser, yard: Yard, tmp_path: Path
) -> None:
    axe.need_axe()
    with doors.opened(yard, tmp_path) as door:
        world.furnish(door)
        world.furnish_with_long_names(door)
        visit = Visit(chromium, door.server.url, reduced_motion="reduce")
        page = visit.page
        page.goto("/console/sign-in/")
        found = {"sign-in": faults_of(page)}
        world.signed_in(visit, yard.operator_password)
        world.belongings(visit, world.LONG)
        for shape in world.every_page(page):
            found[shape] = faults_of(page)
        for name in OCCASIONS.keys() - OVERLAID:
            OCCASIONS[name](page)
            found[name] = faults_of(page)
        visit.close()
    assert len(found) > len(OCCASIONS) + 40
    assert {where: faults for where, faults in found.items() if faults} == {}
    assert visit.faults == []


def test_the_keyboard_reaches_everything_and_shows_where_it_is(
    chromium: Browser, gatehouse: Callable[..., Server], yard: Yard
) -> None:
    visit = Visit(chromium, gatehouse().url)
    page = visit.page
    world.signed_in(visit, yard.operator_password)
    page.goto("/console/tenants/new/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    names: list[str] = []
    while not (names and names[-1] == "Cancel"):
        page.keyboard.press("Tab")
        names.append(page.evaluate(FOCUSED["name"]))
        assert page.evaluate(FOCUSED["ring"]), names
        assert len(names) < MANY_STEPS, names
    assert names[:3] == ["Tenants", "name", "slug"]
    page.get_by_label("Name").last.fill("By keyboard")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="By keyboard")).to_be_visible()
    visit.close()
    assert visit.faults == []
