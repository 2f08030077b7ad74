"""Debian's Chromium, driven by Playwright: a person in front of the console, and what a policy or a script broke meanwhile.

Playwright would bring a Chromium of its own, from a place of its own; Debian's is looked after with the rest of the machine.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request
from playwright.sync_api import sync_playwright as playwright

from tests.support import services

#: Nothing but what the pages ask for leaves the browser, and no name is looked up at all.
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
#: Of one wait for the page; a loaded machine is slow.
PATIENCE_MS = 30_000.0
_SHOW_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""


def executable() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


def need_chromium() -> None:
    if executable() is None:
        services.absent("Chromium is not installed; on Debian, apt-get install chromium")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser. While it is open this thread has an event loop: Django's database is out of reach on it."""
    with playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable(), args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One person's browser, with cookies of its own, on one site. `page` is its first tab.

    `faults` are what no page of ours may cause: scripts that fail, what the policy refused, files that are not there, and
    requests to anywhere else than `origin`. A page that itself says 4xx or 5xx is none.
    """

    def __init__(self, browser: Browser, origin: str, *, scripts: bool = True, **options: Any):
        self.origin = origin
        self.faults: list[str] = []
        self.context: BrowserContext = browser.new_context(
            base_url=origin, java_script_enabled=scripts, **options
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.add_init_script(_SHOW_VIOLATIONS)
        self.context.on("console", self._note_message)
        self.context.on("weberror", lambda error: self.faults.append(f"script: {error.error}"))
        self.context.on("request", self._note_request)
        self.page: Page = self.context.new_page()

    def sign_in(self, username: str, password: str) -> None:
        self.page.goto("/console/sign-in/")
        self.page.get_by_label("User name").fill(username)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()

    def close(self) -> None:
        self.context.close()

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not self._is_the_page_itself(message):
            self.faults.append(f"console of {message.location.get('url')}: {message.text}")

    @staticmethod
    def _is_the_page_itself(message: ConsoleMessage) -> bool:
        """Chromium tells of every answer from 400 up, also of one that the test asked for."""
        page, told = message.page, message.location.get("url", "")
        return "status of" in message.text and page is not None and page.url == told

    def _note_request(self, request: Request) -> None:
        there = urlsplit(request.url)
        if there.scheme != "data" and f"{there.scheme}://{there.netloc}" != self.origin:
            self.faults.append(f"a request to {request.url}")
