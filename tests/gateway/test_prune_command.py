"""`audit prune`: what it says, what it refuses, and how it ends."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection

from tenants import audit_triggers
from tenants.clock import SYSTEM
from tenants.models import AuditEvent, AuditPrune
from tenants.services import create_tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def story(staging, tenant, monkeypatch):
    """Rows of today, and it is forty days later."""
    for number in range(5):
        create_tenant(actor=staging, name=f"t{number}", slug=f"t-{number}")
    later = SYSTEM.now() + timedelta(days=40)
    monkeypatch.setattr(SYSTEM, "now", lambda: later)
    return AuditEvent.objects.count()


def test_old_rows_go_into_files_and_the_log_verifies_with_them(manage, story, tmp_path):
    folder = tmp_path / "segments"
    dry = manage(
        "audit", "prune", "--keep-days", "30", "--output", str(folder), "--dry-run", "--json"
    )
    assert (dry.json["dry_run"], dry.json["rows"]) == (True, story)
    assert not folder.exists()
    done = manage("audit", "prune", "--keep-days", "30", "--output", str(folder), "--json")
    assert (done.code, done.json["rows"], done.json["refused"]) == (0, story, {})
    assert len(done.json["segments"]) == AuditPrune.objects.count() == len(dry.json["segments"])
    assert {it["file"] for it in done.json["segments"]} == {it.name for it in folder.iterdir()}
    verified = manage("audit", "verify", "--segments", str(folder), "--json")
    assert (verified.code, verified.json["ok"], verified.json["pruned"]) == (0, True, story)
    out = manage("audit", "verify").out
    assert f"{story} rows before them were pruned" in out
    again = manage("audit", "prune", "--keep-days", "30", "--output", str(folder))
    assert again.out.strip() == "0 rows went."


def test_a_file_that_was_changed_is_found(manage, story, tenant, tmp_path):
    manage(
        *("audit", "prune", "--keep-days", "30", "--output", str(tmp_path), "--scope", tenant.slug)
    )
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    done = manage("audit", "verify", "--segments", str(tmp_path), "--json")
    assert (done.code, done.json["ok"]) == (1, False)
    assert "is not what it was" in done.json["findings"][0]["message"]
    assert manage("audit", "verify").code == 0


def test_of_one_tenant_or_before_a_time(manage, story, tenant, tmp_path):
    moment = (SYSTEM.now() - timedelta(days=1)).isoformat()
    done = manage(
        *("audit", "prune", "--before", moment, "--output", str(tmp_path), "--scope", tenant.slug)
    )
    assert done.code == 0
    assert {mark.scope for mark in AuditPrune.objects.all()} == {str(tenant.id)}


def test_a_chain_that_does_not_hold_is_told_and_kept(manage, story, tenant, tmp_path):
    audit_triggers.remove(connection)
    AuditEvent.objects.filter(scope=str(tenant.id), seq=1).update(actor_label="x")
    audit_triggers.install(connection)
    done = manage("audit", "prune", "--keep-days", "30", "--output", str(tmp_path), "--json")
    assert done.code == 1
    assert set(done.json["refused"]) == {str(tenant.id)}
    assert "does not hold at 1" in done.err
    assert AuditEvent.objects.filter(scope=str(tenant.id), seq=1).exists()
    assert done.json["rows"] == story - 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--keep-days", "0"),
        ("--before", "yesterday"),
        ("--before", "2100-01-01T00:00:00Z"),
        ("--keep-days", "30", "--scope", "nobody"),
        ("--keep-days", "30", "--output", ""),
        (),
        ("--keep-days", "1", "--before", "2020-01-01T00:00:00Z"),
    ],
)
def test_what_means_nothing_is_a_sentence_and_changes_nothing(manage, story, tmp_path, arguments):
    done = manage("audit", "prune", "--output", str(tmp_path), *arguments)
    assert done.code != 0
    assert done.err.strip()
    assert not AuditPrune.objects.exists()
    assert list(Path(tmp_path).iterdir()) == []
