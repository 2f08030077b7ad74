"""Migrations: from nothing, again, over rows that are there; and none is missing."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from tenants import audit_triggers
from tenants.models import Tenant
from tenants.services import create_tenant
from tests.support import environment
from tests.support.contents import contents


@pytest.mark.django_db
def test_no_change_of_a_model_lacks_its_migration(capsys):
    call_command("makemigrations", check=True, dry_run=True, verbosity=1)
    assert "No changes detected" in capsys.readouterr().out


def test_migrating_again_changes_nothing(transactional_db, staging):
    create_tenant(actor=staging, name="Acme")
    before = contents()
    call_command("migrate", verbosity=0)
    assert contents() == before
    assert audit_triggers.missing(connection) == []


@pytest.mark.django_db
def test_each_room_has_one_newest_migration():
    loader = MigrationLoader(connection)
    assert loader.detect_conflicts() == {}
    for room in ("tenants", "keys", "providers", "usage"):
        assert len(loader.graph.leaf_nodes(room)) == 1


def test_a_tenant_named_default_is_kept_as_it_is(transactional_db, staging):
    """Going back over the migration that makes it and forth again."""
    Tenant.objects.filter(slug="default").delete()
    create_tenant(actor=staging, name="Ours", slug="default", rate_limit_rpm=7)
    call_command("migrate", "tenants", "0001", verbosity=0)
    call_command("migrate", verbosity=0)
    tenant = Tenant.objects.get(slug="default")
    assert (tenant.name, tenant.rate_limit_rpm) == ("Ours", 7)
    assert audit_triggers.missing(connection) == []


def test_from_nothing_there_is_the_default_tenant_and_an_audit_log_that_only_grows(gatehouse):
    server = gatehouse(serve=False, seed=False)
    server.run("migrate", "--no-input")
    assert server.query("SELECT slug, name, status, rate_limit_rpm FROM tenants_tenant") == [
        ("default", "Default", "active", 120)
    ]
    assert "ok    triggers" in server.attempt("doctor").stdout
    again = server.run("migrate", "--no-input")
    assert "No migrations to apply" in again
    assert server.query("SELECT count(*) FROM tenants_tenant") == [(1,)]


@pytest.mark.sqlite
def test_migrations_need_no_secrets_of_another_installation(tmp_path):
    """A database made with one set of secrets and served with another says so; migrating it does not touch what is sealed."""
    path = tmp_path / "a.sqlite3"
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "manage.py", "migrate", "--no-input"],
            cwd=environment.ROOT,
            env=environment.clean(os.environ)
            | environment.fresh_secrets()
            | {"GATEHOUSE_VAR": str(tmp_path), "DATABASE_URL": f"sqlite:///{path}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM tenants_rootsecret").fetchone() == (0,)
