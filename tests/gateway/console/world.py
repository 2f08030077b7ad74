"""An installation with something on every page of the console, made through the public doors; and the way to all its pages."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
from playwright.sync_api import Page

from tests.gateway.door import PRICE, PROMPT, Door, Key, Tenant
from tests.support.browser import Visit
from tests.support.server import Server

_TENANTS: Final = ("Northwind Robotics", "Harbour Clinic", "Old Mill Press", "Kestrel Logistics")
#: As long as names may be, in one word; they come first in every list, so that pages about one thing are about such a one.
LONG: Final = "A" * 128
_OTHER_WAY: Final = 'שלום עולם 🚢 <b>bold</b> & "quoted"'
#: Budgets of which the world's calls use hardly anything, most, and more than there is.
_LIMITS: Final = {
    "rate_limits": ["10/s", "5000/d"],
    "tokens_budget": 2_000_000,
    "tokens_budget_total": 400,
    "cost_budget_usd": "2.50",
    "cost_budget_day_usd": "0.0002",
    "clamp_to_budget": True,
}
#: What differs between two pages of one kind.
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=requests/)[0-9a-f]{32}")
#: Pages that are drawn differently for each value.
_TELLING: Final = re.compile(r"\?kind=(azure|demo|openai)\b(?!-)")


def furnish(door: Door) -> None:
    """Tenants, keys in every state, providers that work and that do not, models, calls of every outcome."""
    tenants = [door.new_tenant(f"tenant-{n}", name=name) for n, name in enumerate(_TENANTS)]
    keys = _keys(door, tenants)
    _providers(door, tenants)
    for name in ("ok", "drip:40x0.001", "usage:none", "usage:cached", "status:429", "cut:2"):
        for key in keys[:3]:
            door.chat(f"oracle/{name}", key=key)
    door.chat("free/ok", key=keys[0])
    door.chat("fallback", key=keys[1])
    door.chat("unheard-of", key=keys[2])
    with door.client.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": "oracle/error-event:3", "messages": PROMPT, "stream": True},
        headers=keys[0].bearer,
    ) as stream:
        stream.read()
    door.assert_nothing_left()
    door.change("PATCH", f"keys/{keys[0].id}", _LIMITS)


def _keys(door: Door, tenants: list[Tenant]) -> list[Key]:
    """The first three can be called with."""
    soon = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    keys = [
        door.new_key(tenants[0], name="pick-planner"),
        door.new_key(tenants[1], name="triage-summaries", rate_limit_rpm=1200, expires_at=soon),
        door.new_key(tenants[2], name="layout", allowed_models=["oracle/*", "un*"], team="press"),
        door.new_key(tenants[0], name="paused"),
        door.new_key(tenants[0], name="rotated"),
        door.new_key(tenants[0], name="revoked"),
    ]
    call = door.admin.call
    call("PATCH", f"keys/{keys[3].id}", {"is_active": False})
    call("POST", f"keys/{keys[4].id}/rotate", {"grace_period_seconds": 86_400})
    call("POST", f"keys/{keys[5].id}/revoke", {"reason": "found in a public repository"})
    call("PATCH", f"tenants/{tenants[2].id}", {"rate_limit_rpm": 600, "max_concurrency": 20})
    return keys


def _providers(door: Door, tenants: list[Tenant]) -> None:
    wrong = door.new_provider(f"{door.oracle.url}/nowhere", "sk-wrong", name="eu-west")
    own = door.new_provider(door.oracle.api, None, name="on-premises", tenant=tenants[1].id)
    door.admin.call("POST", "providers", {"name": "openai", "kind": "openai", "api_key": None})
    for each in (wrong, door.provider_id):
        door.admin.call("POST", f"providers/{each}/test")
    door.admin.call("PATCH", f"providers/{own}", {"is_active": False})
    targets = [
        {"provider": door.provider_id, "upstream_model": "status:503", "priority": 0},
        {"provider": door.provider_id, "upstream_model": "drip:9x0.002", "priority": 1},
    ]
    call = door.admin.call
    call("POST", "models", {"id": "fallback", "targets": targets, "prices": [PRICE]})
    door.new_model("off-for-now", own, "ok", tenant=tenants[1].id, is_active=False)


def furnish_with_long_names(door: Door) -> None:
    """One of each more, with names that hardly fit anywhere."""
    for name in (_OTHER_WAY, LONG):
        tenant = door.new_tenant(name=name)
        key = door.new_key(tenant, name=name)
        provider = door.new_provider(door.oracle.api, "sk-x", name=name)
        door.admin.call("POST", f"providers/{provider}/test")
    target = {"provider": provider, "upstream_model": "~ok".rjust(128, "x")}
    door.admin.call("POST", "models", {"id": LONG, "targets": [target], "prices": [PRICE]})
    door.chat(LONG, key=key)
    door.assert_nothing_left()


def signed_in(visit: Visit, password: str) -> None:
    visit.sign_in(Server.operator, password)
    visit.page.wait_for_url("**/console/")


def belongings(visit: Visit, name: str = "night shift") -> None:
    """A project, and an account with something on it."""
    page = visit.page
    for slug, label in (("projects", "Name"), ("accounts", "User name")):
        page.goto(f"/console/{slug}/new/?tenant=tenant-0")
        page.get_by_label(label).last.fill(name)
        page.get_by_role("main").get_by_role("button").last.click()
        page.wait_for_url(f"**/console/{slug}/*-*/")
    page.get_by_role("link", name="Top up…").click()
    page.get_by_label("Amount, USD").fill("25")
    page.get_by_label("Note").fill("invoice 1017")
    page.get_by_role("main").get_by_role("button", name="Top up", exact=True).click()
    page.get_by_text("The balance is $25 now.").wait_for()


def shape_of(path: str) -> str:
    """`/console/keys/ID/edit/`: the same for two pages that differ in what they are about, and in nothing else."""
    telling = _TELLING.search(path)
    return _ID.sub("ID", path.partition("?")[0]) + (telling[0] if telling else "")


def every_page(page: Page) -> Iterator[str]:
    """Walk to one page of each shape that links lead to, from the overview on. Gives the shape, with the page open."""
    waiting, seen = ["/console/"], {shape_of("/console/")}
    while waiting:
        page.goto(waiting.pop(0))
        found = page.locator("a[href]").evaluate_all(
            "links => links.map(link => link.pathname + link.search).filter(path => path.startsWith('/console/'))"
        )
        for path in found:
            if shape_of(path) not in seen:
                seen.add(shape_of(path))
                waiting.append(path)
        yield shape_of(page.url.removeprefix(_origin(page)))


def _origin(page: Page) -> str:
    url = httpx.URL(page.url)
    return f"{url.scheme}://{url.netloc.decode()}"
