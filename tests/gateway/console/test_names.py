"""Fifty names that would like to be more than a name, on every page that shows one."""

import pytest

from keys.models import APIKey
from tenants.models import Account, Project, Tenant
from tests.cast import Console
from tests.gateway.console.stage import Stage, furnished, path_of, routes
from tests.support.page import Page

_CALL = "alert(1)"
NAMES = [
    f"<script>{_CALL}</script>",
    f"<img src=x onerror={_CALL}>",
    f"<svg onload={_CALL}>",
    f"<svg/onload={_CALL}>",
    f'"><script>{_CALL}</script>',
    f"'><script>{_CALL}</script>",
    f'" onmouseover="{_CALL}',
    f"' onmouseover='{_CALL}",
    f'" autofocus onfocus="{_CALL}',
    f"javascript:{_CALL}",
    f"</title><script>{_CALL}</script>",
    f"</textarea><script>{_CALL}</script>",
    f"</option></select><script>{_CALL}</script>",
    f"</h1><iframe src=javascript:{_CALL}>",
    f"--><script>{_CALL}</script>",
    f"]]><script>{_CALL}</script>",
    f"<a href=javascript:{_CALL}>x</a>",
    f"<body onload={_CALL}>",
    f"<details open ontoggle={_CALL}>",
    f"<input onfocus={_CALL} autofocus>",
    f"<object data=javascript:{_CALL}>",
    "<style>*{display:none}</style>",
    "<div style=position:fixed>x</div>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content=0;url=https://evil.example>",
    "<form action=https://evil.example><button>x",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "{{ request.user.password }}",
    "{% load console %}{% include 'x' %}",
    "{{ 7|add:7 }}",
    "${7*7}",
    "#{7*7}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "\\u003cscript\\u003ealert(1)",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    f"＜script＞{_CALL}＜/script＞",
    f"<ScRiPt>{_CALL}</sCrIpT>",
    f"<<script>{_CALL}//<</script>",
    f"<script src=//evil.example/x.js></script><!--{_CALL}",
    f"<math><mtext><script>{_CALL}</script>",
    f"<video><source onerror={_CALL}>",
    f"<marquee onstart={_CALL}>",
    f"<template><script>{_CALL}</script></template>",
    f"<noscript><p title='</noscript><img src=x onerror={_CALL}>'>",
    "=HYPERLINK(1)",
    "'; DROP TABLE tenants_tenant; --",
    "../../../etc/passwd",
    "null",
    "<" * 100,
]
ABOUT_THINGS = [
    route
    for name, route in routes()
    if route.partition("/")[0] in {"tenants", "projects", "accounts", "keys", "search"}
]


@pytest.fixture
def stage(staging, tenant) -> Stage:
    return furnished(staging, tenant)


def rename(stage: Stage, name: str) -> None:
    """Past every rule, straight into the tables."""
    Tenant.objects.filter(pk=stage.tenants).update(name=name, allowed_models=[name])
    Project.objects.filter(pk=stage.projects).update(name=name)
    Account.objects.filter(pk=stage.accounts).update(username=name, organization=name, email=name)
    APIKey.objects.filter(pk=stage.keys).update(
        name=name,
        team=name[:64],
        allowed_models=[name],
        scopes=[name],
        created_by_label=name,
        revoked_reason=name,
    )


def test_there_are_fifty_of_them():
    assert len(set(NAMES)) == 50


def shape(page: Page) -> list[str]:
    """What kinds of elements there are, in order: what a name cannot change."""
    return page.tags


def assert_inert(console: Console, stage: Stage, names: list[str], paths: list[str]) -> None:
    """Each name, on each page, is text and nothing else: it adds no element, and none of its own goes missing."""
    rename(stage, "harmless")
    plain = {path: shape(Page(console.get(path).content.decode())) for path in paths}
    for name in names:
        rename(stage, name)
        for path in paths:
            page = Page(console.get(path).content.decode())
            assert page.faults == [], (name, path)
            if not path.startswith("search"):
                assert shape(page) == plain[path], (name, path)
            if path.endswith(("s/", f"{stage.of(path.partition('/')[0])}/")):
                assert any(name in text for text in page.texts), (name, path)


def test_each_name_is_a_name_in_a_list_and_on_its_page(console: Console, stage: Stage):
    assert_inert(console, stage, NAMES, ["keys/", f"keys/{stage.keys}/"])


@pytest.mark.sqlite
def test_names_are_names_on_every_page(console: Console, stage: Stage):
    """Ten at a time: columns that are wide enough only SQLite has."""
    paths = [path_of(route, stage) for route in ABOUT_THINGS] + ["search/?q=t"]
    packed = [" ".join(NAMES[start : start + 10]) for start in range(0, len(NAMES), 10)]
    assert_inert(console, stage, packed, paths)


@pytest.mark.parametrize("name", [NAMES[0], NAMES[6], NAMES[27]])
def test_a_name_that_was_typed_comes_back_inert_in_a_form(console: Console, tenant, name: str):
    answer = console.submit(
        "tenants/new/", {"name": name, "slug": "NOT A SLUG", "allowed_models": name}
    )
    assert answer.status_code == 400
    page = Page(answer.content.decode())
    assert page.faults == []
    assert page.forms[-1]["name"] == name
    answer = console.get("search/", data={"q": name})
    assert Page(answer.content.decode()).faults == []
