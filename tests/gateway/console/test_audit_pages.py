"""The audit log in the console: for auditors and owners, read-only, verifiable and exportable."""

import json
from uuid import uuid4

import pytest
from django.db import connection

from providers import services
from tenants import audit_triggers
from tenants.audit import Entry, Target
from tenants.changes import note
from tenants.models import AuditEvent
from tenants.services import create_tenant, update_tenant
from tests.cast import Api, Console
from tests.gateway.console.names import NAMES
from tests.gateway.console.test_provider_pages import assert_inert, text_of
from tests.support.page import Page

PLANTED = "sk-planted-in-the-audit-0a1b2c3d4e5f"


@pytest.fixture
def reader(auditor) -> Console:
    return Console().signed_in(auditor)


@pytest.fixture
def story(staging, tenant, outsider):
    """Some decisions of some people in three chains."""
    update_tenant(actor=staging, tenant_id=tenant.id, name="Acme & Sons", rate_limit_rpm=7)
    services.create_provider(actor=staging, name="main", kind="openai", api_key=PLANTED)


def rows_of(answer) -> list[str]:
    """The ids of the rows that a page leads to."""
    links = Page(answer.content.decode()).links
    ids = [link.removeprefix("/console/audit/").strip("/") for link in links]
    return [it for it in ids if len(it) == 36]


def press(browser: Console, path: str):
    """A button's form, with the token of another form of the page."""
    token = browser.form("password/")["csrfmiddlewaretoken"]
    return browser.post(path, {"csrfmiddlewaretoken": token})


@pytest.mark.parametrize(
    "query",
    [
        "",
        "action=tenant.updated",
        "actor=staging",
        "actor=nobody",
        "target=provider",
        "target=main",
        "tenant=acme",
        "tenant=platform",
        "outcome=refused",
        "source=system",
        "request_id=none",
        "since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z",
    ],
)
def test_filters_find_what_the_api_finds(reader, auditor, story, query):
    theirs = Api().signed_in(auditor).get(f"audit?{query}").json()["data"]
    ours = rows_of(reader.get(f"audit/?{query}"))
    # The sign-in for the API came between.
    assert ours == [row["id"] for row in theirs]


@pytest.mark.parametrize(
    "query",
    ["outcome=x", "source=x", "since=x", "cursor=x", "actor=%00", "status=1", "action=a&action=b"],
)
def test_a_filter_that_means_nothing_is_a_sentence(reader, story, query):
    answer = reader.get(f"audit/?{query}")
    assert answer.status_code == 400
    assert "That filter means nothing" in text_of(answer)
    assert rows_of(answer) == []


def test_what_changed_is_shown_before_and_after(reader, story):
    html = reader.get("audit/?action=tenant.updated").content.decode()
    assert "<del>120</del>" in html
    assert "<ins>7</ins>" in html
    assert "Acme &amp; Sons" in html
    event = AuditEvent.objects.get(action="tenant.updated")
    page = reader.get(f"audit/{event.id}/").content.decode()
    assert bytes(event.row_hash).hex() in page
    assert "<ins>7</ins>" in page
    assert reader.get(f"audit/{uuid4()}/").status_code == 404


def test_no_credential_stands_in_a_detail(reader, staging, story):
    details = {"api_key": PLANTED, "note": f"Bearer {PLANTED}", "odd": [PLANTED, {"x": None}]}
    note(Entry(staging, "test.noted", Target("test", "1"), details=details))
    event = AuditEvent.objects.get(action="test.noted")
    for path in ("audit/", f"audit/{event.id}/"):
        assert PLANTED not in reader.get(path).content.decode()


def test_every_row_is_on_exactly_one_page(reader, staging, story):
    for number in range(110):
        note(Entry(staging, "test.noted", Target("test", str(number))))
    seen, where = [], "audit/?action=test.noted"
    for _ in range(3):
        answer = reader.get(where)
        seen += rows_of(answer)
        older = [link for link in Page(answer.content.decode()).links if "cursor=" in link]
        where = f"audit/{older[-1]}" if older else ""
    assert (where, len(seen), len(set(seen))) == ("", 110, 110)


def test_names_that_are_scripts_stay_text(reader, staging):
    for name in NAMES[:25]:
        create_tenant(actor=staging, name=name, slug=f"s{name[:2]}")
    assert_inert(reader.get("audit/?action=tenant.created"), NAMES[:25])


# Whether the chains hold


def test_the_chains_are_verified_scope_by_scope(reader, story):
    answer = press(reader, "audit/verify/")
    page = text_of(answer)
    assert answer.status_code == 200
    assert f"Intact: {AuditEvent.objects.count()} rows in 3 chains" in page
    for name in ("the house", "Acme & Sons", "Outsider"):
        assert name in page


def test_a_changed_row_is_found_and_its_chain_named(reader, story, tenant):
    audit_triggers.remove(connection)
    try:
        changed = AuditEvent.objects.filter(scope=str(tenant.id)).order_by("seq").first()
        assert changed is not None
        AuditEvent.objects.filter(pk=changed.pk).update(actor_label="somebody else")
        page = text_of(press(reader, "audit/verify/"))
    finally:
        audit_triggers.install(connection)
    assert "One chain does not hold" in page
    assert f"First: {tenant.id} at row {changed.seq}. Its content was changed." in page
    assert page.count("Intact") == 2


def test_looking_at_the_verifications_address_verifies_nothing(reader, story):
    assert reader.get("audit/verify/").status_code == 302
    assert reader.get("audit/export/").status_code == 302
    assert not AuditEvent.objects.filter(action="audit.exported").exists()


# All of it


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous iterators")
def test_the_export_is_json_lines_of_what_the_list_is_filtered_by(reader, story, monkeypatch):
    monkeypatch.setattr("gateway.api.audit._BATCH", 2)
    monkeypatch.setattr("tenants.audit_export._PAGE", 3)
    everything = AuditEvent.objects.count()
    answer = press(reader, "audit/export/")
    lines = [json.loads(it) for it in b"".join(answer).splitlines()]
    assert answer.headers["content-disposition"] == 'attachment; filename="audit.jsonl"'
    # Its own row is among them: it was written first.
    assert len({row["id"] for row in lines}) == len(lines) == everything + 1
    assert lines[-1]["action"] == "audit.exported"
    answer = press(reader, "audit/export/?action=tenant.updated")
    (row,) = (json.loads(it) for it in b"".join(answer).splitlines())
    assert row["action"] == "tenant.updated"
    assert press(reader, "audit/export/?outcome=x").status_code == 302


@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_whoever_is_no_auditor_gets_none_of_it(request, story, role):
    browser = Console().signed_in(request.getfixturevalue(role))
    event = AuditEvent.objects.first()
    assert event is not None
    for path in ("audit/", f"audit/{event.id}/", "audit/verify/", "audit/export/"):
        assert browser.get(path).status_code == 403
        assert press(browser, path).status_code == 403
