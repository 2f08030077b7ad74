"""Commands on tenants, operators, keys and the audit log: what they say, what they refuse, and how they end."""

import io
import json
import stat

import pytest
from django.core.management import call_command
from django.db import connection

from keys.models import APIKey
from tenants import audit_triggers, sealing
from tenants.actor import command_actor
from tenants.commands import read_secret, shell_user, table
from tenants.errors import Invalid
from tenants.keyring import KEYRING
from tenants.models import AuditEvent, AuditHead, RootSecret, Session, Tenant, User
from tenants.services import create_tenant, update_tenant
from tenants.sign_in import sign_in

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"


@pytest.fixture
def tenant() -> Tenant:
    KEYRING.forget()
    return create_tenant(actor=command_actor("test"), name="Acme", slug="acme")


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return str(path)


@pytest.fixture
def without_triggers():
    """Somebody who owns the database can take the triggers away: that is what the chain is for."""
    audit_triggers.remove(connection)
    yield
    audit_triggers.install(connection)


# --- client -----------------------------------------------------------------------------------------------------------


def test_a_client_is_made_and_listed(manage):
    made = manage("client", "create", "--name", "Acme Ltd", "--json").json
    assert made["slug"] == "acme-ltd"
    assert made["created"] is True
    listed = manage("client", "list", "--json").json
    assert "acme-ltd" in [row["slug"] for row in listed["data"]]
    assert "acme-ltd" in manage("client", "list").out


def test_a_taken_slug_is_one_sentence_and_exit_code_1(manage, tenant):
    done = manage("client", "create", "--name", "Other", "--slug", "acme")
    assert (done.code, done.out) == (1, "")
    assert done.err == "The slug 'acme' is taken."


def test_if_missing_leaves_a_client_as_it_is(manage, tenant):
    done = manage("client", "create", "--name", "Other", "--slug", "acme", "--if-missing", "--json")
    assert done.code == 0
    assert (done.json["id"], done.json["name"]) == (str(tenant.id), "Acme")
    assert done.json["created"] is False


def test_a_refusal_in_json_names_code_and_field(manage):
    done = manage("client", "create", "--name", "Acme", "--slug", "Not A Slug", "--json")
    assert done.code == 1
    assert done.json["error"]["code"] == "invalid_request"
    assert "slug" in done.json["error"]["fields"]


def test_a_client_is_deactivated_and_the_shell_user_is_on_record(manage, tenant):
    assert manage("client", "deactivate", "--slug", "acme").code == 0
    tenant.refresh_from_db()
    assert tenant.status == "inactive"
    event = AuditEvent.objects.get(action="tenant.suspended")
    assert (event.source, event.method, event.actor_type) == ("command", "shell", "command")
    assert event.actor_label == shell_user()


def test_bad_usage_exits_2(tenant, capsys):
    command = call_command.__globals__["load_command_class"]("tenants", "client")
    with pytest.raises(SystemExit) as ended:
        command.run_from_argv(["manage.py", "client", "create"])
    assert ended.value.code == 2
    assert "--name" in capsys.readouterr().err


# --- user -------------------------------------------------------------------------------------------------------------


def test_an_account_is_made_listed_and_deactivated(manage, tenant):
    made = manage("user", "create", "--tenant", "acme", "--username", "Ada", "--json").json
    assert (made["tenant"], made["status"], made["created"]) == ("acme", "active", True)
    again = manage(
        "user", "create", "--tenant", "acme", "--username", "ada", "--if-missing", "--json"
    )
    assert (again.json["id"], again.json["created"]) == (made["id"], False)
    taken = manage("user", "create", "--tenant", "acme", "--username", "ADA")
    assert (taken.code, taken.err) == (1, "This tenant has an account 'ADA' already.")
    done = manage("user", "deactivate", "--tenant", "acme", "--username", "ADA", "--json")
    assert (done.json["id"], done.json["status"]) == (made["id"], "inactive")
    listed = manage("user", "list", "--tenant", "acme", "--json").json
    assert [(row["username"], row["status"]) for row in listed["data"]] == [("Ada", "inactive")]
    assert "Ada" in manage("user", "list").out
    assert AuditEvent.objects.filter(action="account.updated", source="command").count() == 1


def test_an_account_of_another_tenant_is_not_there(manage, tenant):
    create_tenant(actor=command_actor("test"), name="Outsider", slug="outsider")
    manage("user", "create", "--tenant", "outsider", "--username", "eve")
    done = manage("user", "deactivate", "--tenant", "acme", "--username", "eve")
    assert (done.code, done.err) == (1, "Tenant acme has no account eve.")


# --- operator ---------------------------------------------------------------------------------------------------------


def test_the_first_operator_is_owner_with_a_password_to_be_changed(manage):
    made = manage("operator", "create", "--username", "ada", "--json").json
    user = User.objects.get(username="ada")
    assert (user.role, user.must_change_password) == ("owner", True)
    assert user.check_password(made["password"])
    assert manage("operator", "create", "--username", "bob", "--json").json["role"] == "operator"


def test_a_given_password_is_not_shown_and_need_not_be_changed(manage, password_file):
    done = manage("operator", "create", "--username", "ada", "--password-file", password_file)
    assert PASSWORD not in done.out + done.err
    user = User.objects.get(username="ada")
    assert user.check_password(PASSWORD)
    assert not user.must_change_password


def test_if_missing_leaves_an_operator_as_it_is(manage):
    manage("operator", "create", "--username", "ada")
    before = User.objects.get(username="ada").password
    done = manage("operator", "create", "--username", "ADA", "--if-missing", "--json")
    assert (done.code, done.json["password"], done.json["created"]) == (0, None, False)
    assert User.objects.get(username="ada").password == before


def test_a_new_password_ends_the_sessions(manage, password_file):
    manage("operator", "create", "--username", "ada", "--password-file", password_file)
    sign_in(actor=command_actor("test"), username="ada", password=PASSWORD)
    made = manage("operator", "reset-password", "--username", "ada", "--json").json
    user = User.objects.get(username="ada")
    assert user.check_password(made["password"])
    assert user.must_change_password
    assert Session.objects.get(user=user).ended_at is not None


def test_the_last_owner_is_not_locked_out(manage):
    manage("operator", "create", "--username", "ada")
    done = manage("operator", "disable", "--username", "ada")
    assert (done.code, done.err) == (1, "This is the last active owner.")
    assert manage("operator", "disable", "--username", "nobody").code == 1


def test_roles_are_explained(manage):
    rows = manage("operator", "roles", "--json").json["data"]
    assert [row["role"] for row in rows] == ["owner", "operator", "auditor", "viewer"]


def test_a_weak_password_is_refused(manage, tmp_path):
    path = tmp_path / "password"
    path.write_text("short")
    done = manage("operator", "create", "--username", "ada", "--password-file", str(path))
    assert done.code == 1
    assert done.err.startswith("password: ")
    assert not User.objects.filter(username="ada").exists()


def test_generated_passwords_and_their_owners_can_be_listed_without_them(manage):
    password = manage("operator", "create", "--username", "ada", "--json").json["password"]
    assert password not in manage("operator", "list", "--json").out
    assert password not in manage("audit", "export").out


# --- secrets from files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff\xfe", b"x" * 70_000], ids=len)
def test_a_file_that_is_not_one_line_is_refused(tmp_path, content):
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(Invalid) as refused:
        read_secret(str(path), "api_key")
    assert "api_key" in refused.value.fields


def test_a_secret_comes_from_a_file_or_standard_input(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"sk-1\r\n")
    assert read_secret(str(path), "api_key") == "sk-1"
    assert read_secret("-", "api_key", io.StringIO("sk-2\n")) == "sk-2"
    with pytest.raises(Invalid):
        read_secret(str(tmp_path / "none"), "api_key")


def test_a_table_cannot_steer_the_terminal():
    lines = table([{"name": "a\x1b[31m\u202eb", "n": None}], ("name", "n"))
    assert len(lines) == 2
    assert "\x1b" not in lines[1]
    assert "\u202e" not in lines[1]
    assert lines[1].endswith("-")


def test_a_long_name_stays_whole_in_a_table():
    name = "fireworks/accounts/fireworks/models/gpt-oss-120b"
    assert table([{"name": name}], ("name",))[1] == name


# --- key --------------------------------------------------------------------------------------------------------------


def issue(manage, *more: str):
    return manage("key", "issue", "--tenant", "acme", "--name", "first", *more)


def test_a_key_is_issued_with_its_fields_and_a_line_to_paste(manage, tenant):
    options = (
        "--scopes usage,inference --rpm 60 --models a,b* --team t1 --expires 2999-01-01T00:00:00Z"
    )
    done = issue(manage, *options.split())
    key = APIKey.objects.get()
    assert (key.scopes, key.rate_limit_rpm, key.team) == (["inference", "usage"], 60, "t1")
    assert key.allowed_models == ["a", "b*"]
    assert key.expires_at is not None
    lines = done.out.splitlines()
    assert lines[0] == "Issued key first for acme."
    credential = lines[1].split()[-1]
    assert credential.startswith("gwk_")
    assert lines[-1].startswith("curl ")
    assert f"Authorization: Bearer {credential}" in lines[-1]


def test_a_key_is_issued_with_a_budget_for_the_month(manage, tenant):
    assert issue(manage, "--budget-usd", "5", "--json").json["cost_budget_usd"] == "5"
    assert APIKey.objects.get().cost_budget_nano == 5_000_000_000


@pytest.mark.parametrize("amount", ["0", "-1", "five", "NaN", "0.0000000001", "1e3"])
def test_what_is_no_amount_is_refused_as_a_budget_and_no_key_is_made(manage, tenant, amount):
    done = issue(manage, "--budget-usd", amount)
    assert (done.code, "cost_budget_usd: " in done.err) == (1, True)
    assert not APIKey.objects.exists()


def test_if_missing_issues_one_key_per_name_and_shows_it_once(manage, tenant):
    first = issue(manage, "--if-missing", "--json").json
    again = issue(manage, "--if-missing", "--json").json
    assert first["key"].startswith("gwk_")
    assert (again["key"], again["id"]) == (None, first["id"])
    manage("key", "revoke", first["id"])
    assert issue(manage, "--if-missing", "--json").json["id"] != first["id"]


def test_a_key_is_rotated_with_grace_and_revoked_by_its_prefix(manage, tenant):
    first = issue(manage, "--json").json
    rotated = manage("key", "rotate", first["id"], "--grace-seconds", "60", "--json").json
    assert rotated["id"] == first["id"]
    assert rotated["key"] != first["key"]
    assert rotated["previous_secret_expires_at"].endswith("Z")
    revoked = manage("key", "revoke", rotated["key_prefix"], "--reason", "leaked", "--json")
    assert revoked.json["status"] == "revoked"
    again = manage("key", "revoke", first["id"])
    assert again.code == 1
    assert again.err.startswith("The key was revoked at ")


def test_listing_shows_no_credential(manage, tenant):
    first = issue(manage, "--json").json
    update_tenant(actor=command_actor("test"), tenant_id=tenant.id, name="Acme 2")
    listed = manage("key", "list", "--tenant", "acme", "--active-only", "--json")
    assert [row["id"] for row in listed.json["data"]] == [first["id"]]
    assert first["key"] not in listed.out
    assert first["key_prefix"] in listed.out


def test_a_key_of_another_tenant_is_not_found_through_this_one(manage, tenant):
    create_tenant(actor=command_actor("test"), name="Other", slug="other")
    first = issue(manage, "--json").json
    done = manage("key", "revoke", first["id"], "--tenant", "other")
    assert (done.code, "There is no key" in done.err) == (1, True)


# --- audit ------------------------------------------------------------------------------------------------------------


def test_an_untouched_log_verifies(manage, tenant):
    done = manage("audit", "verify", "--json")
    assert (done.code, done.json["ok"], done.json["findings"]) == (0, True, [])
    assert done.json["rows"] > 0


def test_a_log_without_a_row_verifies_and_stays_empty(manage):
    assert manage("audit", "verify").code == 0
    assert not RootSecret.objects.filter(purpose="audit").exists()


@pytest.mark.usefixtures("without_triggers")
def test_an_altered_row_is_exit_code_1_and_named(manage, tenant):
    issue(manage)
    AuditEvent.objects.filter(scope=str(tenant.id), seq=2).update(actor_label="somebody else")
    done = manage("audit", "verify")
    assert done.code == 1
    assert done.err == f"The audit log of {tenant.id} is altered at 2."
    told = manage("audit", "verify", "--scope", "acme", "--json").json
    assert [(it["kind"], it["seq"]) for it in told["findings"]] == [("altered", 2)]


@pytest.mark.usefixtures("without_triggers")
def test_a_cut_tail_is_exit_code_2(manage, tenant):
    issue(manage)
    AuditEvent.objects.filter(scope=str(tenant.id), seq=2).delete()
    assert manage("audit", "verify").code == 2


@pytest.mark.usefixtures("without_triggers")
def test_a_tail_cut_together_with_its_head_shows_against_anchors(manage, tenant, tmp_path):
    issue(manage)
    anchors = tmp_path / "heads.json"
    anchors.write_text(manage("audit", "heads").out)
    assert manage("audit", "verify", "--anchors", str(anchors)).code == 0
    AuditEvent.objects.filter(scope=str(tenant.id)).delete()
    AuditHead.objects.filter(scope=str(tenant.id)).delete()
    assert manage("audit", "verify").code == 0
    assert manage("audit", "verify", "--anchors", str(anchors)).code == 2


def test_a_changed_head_shows_with_and_without_anchors(manage, tenant, tmp_path):
    anchors = tmp_path / "heads.json"
    anchors.write_text(manage("audit", "heads").out)
    AuditHead.objects.filter(scope=str(tenant.id)).update(row_hash=bytes(32))
    assert manage("audit", "verify").code == 1
    assert manage("audit", "verify", "--anchors", str(anchors)).code == 1


def test_a_wrong_kek_is_exit_code_3_and_nothing_is_made_anew(manage, tenant, settings):
    settings.KEK = [sealing.Secret(bytes(range(32)))]
    KEYRING.forget()
    done = manage("audit", "verify", "--json")
    assert (done.code, done.json["error"]["code"]) == (3, "key_unavailable")


def test_a_missing_audit_key_is_exit_code_3_and_not_made_anew(manage, tenant):
    RootSecret.objects.filter(purpose="audit").delete()
    KEYRING.forget()
    assert manage("audit", "verify").code == 3
    assert not RootSecret.objects.filter(purpose="audit").exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"heads": {"x": 1}}', '{"heads": {"x": {"seq": "1"}}}', "[" * 100_000]
)
def test_anchors_that_are_not_understood_prove_nothing(manage, tmp_path, text):
    anchors = tmp_path / "heads.json"
    anchors.write_text(text)
    done = manage("audit", "verify", "--anchors", str(anchors))
    assert done.code == 1
    assert done.err.startswith("anchors: ")


def test_an_export_is_json_lines_of_the_chosen_rows(manage, tenant, tmp_path):
    issue(manage)
    rows = [
        json.loads(line) for line in manage("audit", "export", "--scope", "acme").out.splitlines()
    ]
    assert [row["action"] for row in rows] == ["tenant.created", "key.issued"]
    assert rows[1]["prev_hash"] == rows[0]["row_hash"]
    assert rows[1]["actor"]["label"] == shell_user()
    since = rows[1]["created_at"]
    later = manage("audit", "export", "--scope", "acme", "--since", since).out.splitlines()
    earlier = manage("audit", "export", "--scope", "acme", "--until", since).out.splitlines()
    assert (len(later), len(earlier)) == (1, 1)
    target = tmp_path / "audit.jsonl"
    assert manage("audit", "export", "--output", str(target), "--json").json["rows"] > 2
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert manage("audit", "export", "--output", str(target)).code == 1
    assert AuditEvent.objects.filter(action="audit.exported").count() >= 1


def test_an_export_longer_than_a_page_has_every_row_once(manage, tenant, monkeypatch):
    monkeypatch.setattr("tenants.audit_export._PAGE", 3)
    for number in range(10):
        update_tenant(actor=command_actor("test"), tenant_id=tenant.id, name=f"Acme {number}")
    rows = [
        json.loads(line) for line in manage("audit", "export", "--scope", "acme").out.splitlines()
    ]
    assert [row["seq"] for row in rows] == list(range(1, 12))


def test_a_time_without_a_zone_is_refused(manage):
    done = manage("audit", "export", "--since", "2026-01-01T00:00:00")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("since: ")
