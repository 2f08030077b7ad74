"""A whole backup into an empty database: everything is as it was, and the old key opens the door."""

import base64
import hashlib
import json
import secrets
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from tenants import sealing
from tenants.sealing import Secret
from tests.gateway.backup.conftest import Backed, Empty, exported, rows_of
from tests.gateway.door import PROMPT, Admin, Key, eventually
from tests.support import dump
from tests.support.server import Server, Yard


def imported(server: Server, backed: Backed, *options: str) -> dict:
    return dict(server.manage("backup", "import", str(backed.file), *options))


def assert_equal(before: dict, after: dict) -> None:
    """But for the audit row of the import itself, which goes on in the chain that came along."""
    assert set(before) == set(after)
    heads = "tenants.audithead"
    events = "tenants.auditevent"
    for table in before.keys() - {heads, events}:
        assert after[table] == before[table], table
    added = [row for row in after[events] if row not in before[events]]
    assert [row["action"] for row in added] == ["backup.imported"]
    assert len(after[events]) == len(before[events]) + 1
    others = [
        [row for row in rows[heads] if row["scope"] != "platform"] for rows in (before, after)
    ]
    assert others[0] == others[1]


def test_what_was_exported_and_imported_is_exported_again_the_same(
    backed: Backed, empty: Empty, tmp_path
):
    server = empty()
    told = imported(server, backed)
    assert (told["possible"], told["unreadable"], told["warnings"]) == (True, 0, [])
    again = exported(server, tmp_path / "again.jsonl", "--with-logs")
    before = rows_of(backed.file)
    assert_equal(before, rows_of(again))
    assert all(counts["new"] == counts["rows"] for counts in told["tables"].values())
    filled = {"usage.ledgerentry", "usage.attempt", "usage.requestlog", "usage.requestcontent"}
    filled |= {"usage.balance", "usage.credit", "usage.rollup", "providers.price"}
    filled |= {"providers.credential", "keys.keysecret", "tenants.user"}
    assert filled <= before.keys()


@pytest.mark.postgres
def test_a_backup_of_postgresql_goes_into_sqlite_and_back(backed: Backed, empty: Empty, tmp_path):
    lite = empty("sqlite")
    imported(lite, backed)
    over = exported(lite, tmp_path / "lite.jsonl", "--with-logs")
    assert_equal(rows_of(backed.file), rows_of(over))
    back = empty("postgres")
    back.run("backup", "import", str(over))
    again = exported(back, tmp_path / "again.jsonl", "--with-logs")
    assert_equal(rows_of(over), rows_of(again))


def test_the_old_key_opens_the_door_and_the_old_credential_the_provider(
    backed: Backed, empty: Empty, yard: Yard
):
    server = empty()
    imported(server, backed)
    assert {found["state"] for found in server.manage("doctor")["checks"]} <= {"ok", "warning"}
    assert server.manage("audit", "verify")["ok"]
    assert server.manage("usage", "reconcile")["ok"]
    server.start()
    try:
        body = {"model": "oracle/ok", "messages": PROMPT}
        for key, credential in (
            (backed.key, "sk-of-its-own"),
            (backed.door.key, backed.door.upstream_key),
        ):
            assert chat(server, key, body).status_code == 200
            assert backed.door.oracle.calls[-1].header("authorization") == f"Bearer {credential}"
        assert chat(server, backed.paused, body).status_code == 401
        admin = Admin(server, yard.operator_password)
        [account] = admin.call("GET", f"users?tenant={backed.tenant.id}")["data"]
        assert account["id"] == backed.account
        admin.close()
    finally:
        server.stop()
    assert server.manage("usage", "reconcile")["ok"]
    assert server.manage("audit", "verify")["ok"]


def chat(server: Server, key: Key, body: dict) -> httpx.Response:
    url = f"{server.api}/chat/completions"
    return httpx.post(url, json=body, headers=key.bearer, trust_env=False, timeout=30.0)


def test_a_server_that_was_waiting_empty_begins_anew_with_what_was_restored(
    backed: Backed, empty: Empty
):
    """Over HTTP: nobody can sign in to an empty house, but the admin key opens it."""
    admin_key = secrets.token_urlsafe(48)
    server = empty(GATEHOUSE_ADMIN_TOKEN=admin_key)
    server.start(workers=2)
    try:
        body = {"model": "oracle/ok", "messages": PROMPT}
        assert chat(server, backed.key, body).status_code == 401
        before = set(server.worker_pids())
        door = f"{server.url}/v1/admin/backup/import"
        headers = {"x-admin-key": admin_key, "content-type": "application/jsonl"}
        raw = backed.file.read_bytes()
        for preview in ("true", "false"):
            answer = httpx.post(
                f"{door}?preview={preview}",
                content=raw,
                headers=headers,
                trust_env=False,
                timeout=60.0,
            )
            assert answer.status_code == 200, answer.text
            assert answer.json()["possible"]
        eventually(lambda: not before & set(server.worker_pids()), 30.0)
        server.wait_ready()
        assert chat(server, backed.key, body).status_code == 200
    finally:
        server.stop()
    assert server.manage("audit", "verify")["ok"]


def test_a_restored_house_goes_on_with_the_money_as_it_was(
    backed: Backed, empty: Empty, yard: Yard
):
    server = empty()
    imported(server, backed)
    question = "SELECT credited, spent, held FROM usage_balance WHERE \"window\" = 'prepaid'"
    [(credited, spent, held)] = server.query(question)
    assert [(credited, spent, 0)] == backed.door.server.query(question)
    assert (credited, held) == (12_500_000_001, 0)
    assert spent > 0


# --- without the master key -------------------------------------------------------------------------------------------


def test_without_the_master_key_nothing_is_readable_and_it_is_said(
    backed: Backed, empty: Empty, yard: Yard
):
    server = empty(GATEHOUSE_KEK=secrets.token_hex(32))
    before = dump.of_database(server.database_url)
    preview = server.attempt("backup", "import", str(backed.file), "--preview", "--json")
    assert preview.returncode == 1
    told = json.loads(preview.stdout)
    assert (told["possible"], told["master_key"]) == (False, False)
    refused = server.attempt("backup", "import", str(backed.file))
    assert refused.returncode == 1
    sentence = "The master key of this backup is not here"
    assert sentence in refused.stderr
    assert any(sentence in each for each in (*told["refusals"], *told["warnings"]))
    assert dump.of_database(server.database_url) == before

    accepted = imported(server, backed, "--accept-unreadable")
    assert accepted["unreadable"] == told["unreadable"] >= 6
    assert accepted["tables"]["tenants.auditevent"]["new"] == 0
    assert accepted["tables"]["keys.keysecret"]["new"] == 0
    assert any("rotate each" in each for each in accepted["warnings"])
    assert server.manage("audit", "verify")["rows"] == 1
    server.start()
    try:
        _nothing_opens(server, backed, yard)
    finally:
        server.stop()


def _nothing_opens(server: Server, backed: Backed, yard: Yard) -> None:
    body = {"model": "oracle/ok", "messages": PROMPT}
    assert chat(server, backed.key, body).status_code == 401
    calls = len(backed.door.oracle.calls)
    admin = Admin(server, yard.operator_password)
    made = admin.call("POST", f"tenants/{backed.tenant.id}/api-keys", {"name": "new"})
    answer = chat(server, Key(made["id"], made["key_prefix"], made["key"]), body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "credential_unreadable")
    test = f"/v1/admin/providers/{backed.door.provider_id}/test"
    bearer = {"authorization": f"Bearer {admin.token}"}
    answer = httpx.post(f"{server.url}{test}", headers=bearer, trust_env=False, timeout=30.0)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "credential_unreadable")
    assert len(backed.door.oracle.calls) == calls
    # It is a house that goes on: a new credential is sealed under a secret of its own.
    new = {"api_key": backed.door.upstream_key}
    admin.call("POST", f"providers/{backed.door.provider_id}/rotate-credential", new)
    assert admin.call("POST", f"providers/{backed.door.provider_id}/test")["ok"]
    admin.close()


# --- all or nothing ---------------------------------------------------------------------------------------------------


def test_one_bad_row_and_nothing_was_there(backed: Backed, empty: Empty, tmp_path: Path):
    """The file makes sense line by line, and its digest was made anew; only the database knows better."""
    lines = [json.loads(line) for line in backed.file.read_text().splitlines()]
    number = next(n for n, line in enumerate(lines) if line.get("table") == "usage.requestlog")
    lines[number]["row"]["dispatched"] = "perhaps"
    body = "".join(json.dumps(line) + "\n" for line in lines[:-1])
    lines[-1]["end"]["sha256"] = hashlib.sha256(body.encode()).hexdigest()
    bad = tmp_path / "bad.jsonl"
    bad.write_text(body + json.dumps(lines[-1]) + "\n")
    server = empty(GATEHOUSE_KEK=secrets.token_hex(32))
    before = dump.of_database(server.database_url)
    refused = server.attempt("backup", "import", str(bad), "--accept-unreadable", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["message"] == (
        f"Line {number + 1}: usage.requestlog: the row is there already, or breaks a rule of its table."
    )
    assert rows_only(dump.of_database(server.database_url)) == rows_only(before)
    # And nothing of it stands in the way of the next try.
    assert imported(server, backed, "--accept-unreadable")["possible"]


def rows_only(raw: bytes) -> list[bytes]:
    return sorted(line for line in raw.splitlines() if line.startswith(b"INSERT") or b"\t" in line)


def test_a_house_with_something_in_it_does_not_take_a_whole_backup(backed: Backed, empty: Empty):
    server = empty()
    imported(server, backed)
    refused = server.attempt("backup", "import", str(backed.file))
    assert refused.returncode == 1
    assert "This database is not empty" in refused.stderr
    assert "--remap-ids" in refused.stderr
    told = json.loads(
        server.attempt("backup", "import", str(backed.file), "--preview", "--json").stdout
    )
    assert not told["possible"]
    assert told["tables"]["keys.apikey"]["existing"] == 3
    assert server.manage("audit", "verify")["ok"]


def test_the_same_file_is_not_written_twice(backed: Backed):
    refused = backed.door.server.attempt("backup", "export", "--output", str(backed.file))
    assert refused.returncode == 1
    assert "cannot be made: File exists" in refused.stderr


# --- what is not in it ------------------------------------------------------------------------------------------------


def test_no_secret_is_in_a_backup_in_any_disguise(backed: Backed, yard: Yard):
    door = backed.door
    texts = [backed.key.secret, backed.paused.secret, door.key.secret, door.upstream_key]
    texts += [key.secret[10:] for key in (backed.key, door.key)]
    texts += ["sk-of-its-own", yard.operator_password, door.admin.token, backed.prompt]
    texts += [door.admin.token.rpartition(".")[2], yard._secrets["SECRET_KEY"]]
    never = [text.encode() for text in texts]
    kek = Secret(bytes.fromhex(yard._secrets["GATEHOUSE_KEK"]))
    never += [kek.reveal(), *_clear_roots(backed, kek)]
    raw = backed.file.read_bytes()
    assert dump.occurrences(never, raw) == []
    assert dump.occurrences([b"openai-compatible"], raw)


def _clear_roots(backed: Backed, kek: Secret) -> list[bytes]:
    """Every secret of the house and of its tenants, the pepper among them."""
    keks = {sealing.kek_id(kek): kek}
    rows = rows_of(backed.file)["tenants.rootsecret"]
    assert {row["purpose"] for row in rows} == {"tenant", "pepper", "audit", "sign-in"}
    return [
        sealing.unwrap(
            keks,
            f"{row['purpose']}/{row['tenant_id'] or UUID(int=0)}/{row['version']}",
            base64.b64decode(row["wrapped"]),
        ).reveal()
        for row in rows
    ]


def test_sessions_holds_and_answers_kept_do_not_come_along(backed: Backed):
    tables = set(rows_of(backed.file))
    assert tables.isdisjoint({"tenants.session", "tenants.spentticket", "usage.idempotentcall"})
    assert tables.isdisjoint({"usage.hold", "usage.holdslice", "usage.sharedlimit"})
    assert all("held" not in row for row in rows_of(backed.file)["usage.balance"])
