"""Housekeeping and the pruning of the audit log in the console: for owners, asked about first, done once."""

from datetime import timedelta

import pytest

from gateway import housekeeping
from tenants import audit, audit_prune, duties
from tenants.clock import SYSTEM
from tenants.models import AuditEvent, AuditPrune, Duty
from tenants.services import create_tenant
from tests.cast import Console
from tests.gateway.api.calls import log_row
from tests.gateway.console.test_provider_pages import text_of
from tests.support.contents import contents
from usage.models import RequestLog


@pytest.fixture
def house(settings, tmp_path):
    settings.SET_BY_ENVIRONMENT, settings.RETENTION_DAYS = frozenset(), 90
    settings.AUDIT_RETENTION_DAYS, settings.HOUSEKEEPING = 0, True
    settings.AUDIT_SEGMENTS = str(tmp_path / "segments")
    return settings


@pytest.fixture
def reader(house, owner) -> Console:
    return Console().signed_in(owner)


@pytest.fixture
def old_rows(staging, tenant, outsider, reader, owner, monkeypatch):
    """What was decided forty days ago; the owner has signed in today."""
    create_tenant(actor=staging, name="Third", slug="third")
    now = SYSTEM.now() + timedelta(days=40)
    count = AuditEvent.objects.count()
    monkeypatch.setattr(SYSTEM, "now", lambda: now)
    return Console().signed_in(owner), count


@pytest.mark.django_db(transaction=True)
def test_housekeeping_says_first_what_would_go_and_then_has_a_worker_do_it(reader):
    for days in (1, 91, 92):
        log_row(created_at=SYSTEM.now() - timedelta(days=days))
    worker = housekeeping.Housekeeper()
    Duty.objects.create(name=housekeeping.DAILY, done_at=SYSTEM.now())
    before = contents("tenants_session", "tenants_rootsecret")
    page = text_of(reader.get("housekeeping/"))
    assert "2 log rows of calls" in page
    assert "90 days" in page
    assert contents("tenants_session", "tenants_rootsecret") == before
    assert not duties.take(housekeeping.DAILY, "x", SYSTEM.now(), timedelta(days=1))
    answer = reader.submit("housekeeping/")
    assert answer.status_code == 302
    assert RequestLog.objects.count() == 3
    worker.look()
    assert RequestLog.objects.count() == 1
    assert AuditEvent.objects.filter(action="housekeeping.asked").count() == 1


def test_where_cron_does_it_the_page_says_so(reader, house):
    house.HOUSEKEEPING = False
    page = text_of(reader.get("housekeeping/"))
    assert "GATEHOUSE_HOUSEKEEPING=off" in page
    assert "Do it now" not in page


def test_nothing_that_is_over_is_said(reader):
    assert "Nothing is over just now." in text_of(reader.get("housekeeping/"))


def test_audit_rows_are_shown_before_they_go_and_go_once(old_rows, tmp_path):
    browser, count = old_rows
    shown = browser.submit("audit/prune/", {"keep_days": "30"})
    assert shown.status_code == 400
    assert f"{count} rows of" in text_of(shown)
    assert not AuditPrune.objects.exists()
    form = browser.form("audit/prune/")
    form |= {"keep_days": "30"}
    form["seen"] = _seen(shown)
    answer = browser.post("audit/prune/", form)
    assert answer.status_code == 302, text_of(answer)
    assert sum(mark.rows for mark in AuditPrune.objects.all()) == count
    assert len(list((tmp_path / "segments").iterdir())) == AuditPrune.objects.count()
    assert audit.verify().findings == []
    assert "rows went into" in text_of(browser.get("audit/"))
    rows = AuditEvent.objects.count()
    again = browser.post("audit/prune/", form)
    assert again.status_code == 409
    # A refusal is a row, too.
    assert AuditEvent.objects.count() == rows + 1


def _seen(answer) -> str:
    html: str = answer.content.decode()
    return html.partition('name="seen" value="')[2].partition('"')[0]


def test_what_was_not_shown_does_not_go(old_rows):
    browser, _ = old_rows
    shown = browser.submit("audit/prune/", {"keep_days": "30"})
    answer = browser.submit("audit/prune/", {"keep_days": "20", "seen": _seen(shown)})
    assert answer.status_code == 400
    assert "This is what would go" in text_of(answer)
    for days in ("0", "", "-1", "3651", "x"):
        assert browser.submit("audit/prune/", {"keep_days": days}).status_code == 400
    assert not AuditPrune.objects.exists()


def test_somebody_who_was_faster_is_noticed(old_rows, staging, tmp_path):
    browser, _ = old_rows
    form = browser.form("audit/prune/") | {"keep_days": "30"}
    form["seen"] = _seen(browser.submit("audit/prune/", {"keep_days": "30"}))
    before = SYSTEM.now() - timedelta(days=30)
    audit_prune.prune(actor=staging, before=before, folder=tmp_path / "elsewhere")
    assert browser.post("audit/prune/", form).status_code == 409


def test_without_a_folder_there_is_nothing_to_do(reader, house):
    house.AUDIT_SEGMENTS = ""
    assert "GATEHOUSE_AUDIT_SEGMENTS is empty" in text_of(reader.get("audit/prune/"))


@pytest.mark.parametrize("role", ["operator", "auditor", "viewer"])
def test_it_is_for_owners(house, request, role):
    browser = Console().signed_in(request.getfixturevalue(role))
    for path in ("housekeeping/", "audit/prune/"):
        assert browser.get(path).status_code == 403
        token = browser.form("password/")["csrfmiddlewaretoken"]
        assert browser.post(path, {"csrfmiddlewaretoken": token}).status_code == 403
    if role == "auditor":
        assert "Prune…" not in text_of(browser.get("audit/"))
