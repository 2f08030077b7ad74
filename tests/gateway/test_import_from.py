"""Keys of another gateway, brought here: they go on opening the door, with their limits and what they had used of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.door import Door, eventually, opened
from tests.gateway.moving import bring, call, new_secret, refused, sha256, table
from tests.support.server import Yard


@pytest.fixture(scope="module")
def door(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with opened(yard, tmp_path_factory.mktemp("imports")) as door:
        yield door


# --- by hash ----------------------------------------------------------------------------------------------------------


def test_a_key_known_only_by_its_hash_opens_the_door(door: Door, tmp_path: Path) -> None:
    tenant, secret = door.new_tenant(), new_secret()
    unknown = refused(door, secret)
    rows = [
        {"hash": sha256(secret), "name": "ci", "team": "build", "rate_limit_rpm": 2, "burst": 2}
    ]
    done = bring(door, "sha256", table(tmp_path / "keys.csv", rows), tenant=tenant.slug)
    assert done["counts"]["keys"] == {"added": 1, "existing": 0, "gone": 0}
    answers = [call(door, secret) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    row = door.row(answers[0])
    assert row["key_prefix"] == f"sha256:{sha256(secret)[:8]}"
    assert refused(door, f"{secret}x") == unknown
    [made] = door.admin.call("GET", f"tenants/{tenant.id}/api-keys")["data"]
    assert (made["source"], made["name"], made["team"]) == ("import", "ci", "build")
    assert made["key_prefix"] == row["key_prefix"]


def test_what_was_used_before_counts_and_a_list_of_models_holds(door: Door, tmp_path: Path) -> None:
    tenant, rich, poor = door.new_tenant(), new_secret(), new_secret()
    rows: list[dict[str, Any]] = [
        {
            "hash": sha256(rich),
            "name": "rich",
            "cost_budget_total_usd": "10",
            "budget_spent_usd": "9",
            "allowed_models": "oracle/*",
        },
        {
            "hash": sha256(poor),
            "name": "poor",
            "cost_budget_usd": "10",
            "budget_spent_usd": "9.9999999",
        },
    ]
    done = bring(door, "sha256", table(tmp_path / "keys.csv", rows), tenant=tenant.slug)
    assert {it["name"]: it["used_usd"] for it in done["things"]} == {
        "rich": "9",
        "poor": "9.9999999",
    }
    state = door.client.get("/v1/key", headers={"authorization": f"Bearer {rich}"}).json()
    [budget] = [it for it in state["budgets"] if it["level"] == "key"]
    assert (budget["limit"], budget["spent"], budget["remaining"]) == ("10", "9", "1")
    assert call(door, rich).status_code == 200
    assert call(door, rich, "embed/x").status_code == 403
    # A hundred nano-dollars are left, and half a dollar is what this may come to.
    large: dict[str, Any] = {"max_tokens": 250_000}
    answer = call(door, poor, **large)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "budget_exhausted")
    eventually(lambda: door.row(call(door, rich))["status"] == 200)
    again = door.client.get("/v1/key", headers={"authorization": f"Bearer {rich}"}).json()
    [budget] = [it for it in again["budgets"] if it["level"] == "key"]
    assert budget["spent"].startswith("9.")
    assert door.server.manage("usage", "reconcile")["differences"] == []


def test_a_key_that_may_not_call_is_refused_like_one_that_nobody_knows(
    door: Door, tmp_path: Path
) -> None:
    tenant, paused, expired = door.new_tenant(), new_secret(), new_secret()
    unknown = refused(door, new_secret())
    rows = [
        {"hash": sha256(paused), "name": "paused", "is_active": "false"},
        {"hash": sha256(expired), "name": "expired", "expires_at": "2026-01-01T00:00:00Z"},
    ]
    done = bring(door, "sha256", table(tmp_path / "keys.csv", rows), tenant=tenant.slug)
    assert done["counts"]["keys"]["added"] == 2
    assert [refused(door, each) for each in (paused, expired)] == [unknown] * 2
    for nonsense in ("sk-", "x" * 8192, "a.b.c", "gwz_12345678", "ключ".encode().hex()):
        assert refused(door, nonsense) == unknown


def test_rotation_gives_a_key_of_ours_and_the_old_one_works_through_its_grace(
    door: Door, tmp_path: Path
) -> None:
    tenant, secret, other = door.new_tenant(), new_secret(), new_secret()
    rows: list[dict[str, Any]] = [
        {"hash": sha256(secret), "name": "ci", "rate_limit_rpm": 3, "burst": 3},
        {"hash": sha256(other), "name": "other"},
    ]
    path = table(tmp_path / "keys.csv", rows)
    bring(door, "sha256", path, tenant=tenant.slug)
    keys = {
        it["name"]: it["id"]
        for it in door.admin.call("GET", f"tenants/{tenant.id}/api-keys")["data"]
    }
    assert call(door, secret).status_code == 200
    rotated = door.change("POST", f"keys/{keys['ci']}/rotate", {"grace_period_seconds": 600})
    assert rotated["key"].startswith("gwk_")
    answers = [call(door, secret), call(door, rotated["key"]), call(door, secret)]
    assert [answer.status_code for answer in answers] == [200, 200, 429], "one limit for both"
    unknown = refused(door, new_secret())
    door.change("POST", f"keys/{keys['other']}/rotate", {"grace_period_seconds": 0})
    assert refused(door, other) == unknown
    # None of it comes back with the table that it came from, nor when the key itself is gone.
    again = bring(door, "sha256", path, tenant=tenant.slug)
    assert again["counts"]["keys"] == {"added": 0, "existing": 0, "gone": 2}
    assert refused(door, other) == unknown
    for name in keys:
        door.change("DELETE", f"tenants/{tenant.id}/api-keys/{keys[name]}?permanent=true")
    again = bring(door, "sha256", path, tenant=tenant.slug)
    assert again["counts"]["keys"] == {"added": 0, "existing": 0, "gone": 2}
    assert [refused(door, each) for each in (secret, other)] == [unknown] * 2


def test_a_second_import_adds_nothing_and_revives_nothing(door: Door, tmp_path: Path) -> None:
    tenant, kept, ended = door.new_tenant(), new_secret(), new_secret()
    rows = [{"hash": sha256(kept), "name": "kept"}, {"hash": sha256(ended), "name": "ended"}]
    path = table(tmp_path / "keys.csv", rows)
    bring(door, "sha256", path, tenant=tenant.slug)
    found = door.admin.call("GET", f"tenants/{tenant.id}/api-keys")["data"]
    [ended_id] = [it["id"] for it in found if it["name"] == "ended"]
    door.change("POST", f"keys/{ended_id}/revoke", {"reason": "left"})
    again = bring(door, "sha256", path, tenant=tenant.slug)
    assert again["counts"]["keys"] == {"added": 0, "existing": 1, "gone": 1}
    assert call(door, kept).status_code == 200
    assert call(door, ended).status_code == 401
    assert len(door.admin.call("GET", f"tenants/{tenant.id}/api-keys")["data"]) == 2


def test_a_dry_run_says_the_same_and_changes_nothing(door: Door, tmp_path: Path) -> None:
    tenant, secret = door.new_tenant(), new_secret()
    rows = [{"hash": sha256(secret), "name": "ci", "project": "Night shift"}]
    path = table(tmp_path / "keys.csv", rows)
    before = door.count("tenants_auditevent"), door.count("tenants_configchange")
    dry = bring(door, "sha256", path, "--dry-run", tenant=tenant.slug)
    assert (door.count("tenants_auditevent"), door.count("tenants_configchange")) == before
    assert call(door, secret).status_code == 401
    assert door.admin.call("GET", f"tenants/{tenant.id}/api-keys")["data"] == []
    done = bring(door, "sha256", path, tenant=tenant.slug)
    assert {**dry, "dry_run": False} == done
    assert done["counts"]["projects"]["added"] == 1
    assert call(door, secret).status_code == 200


def test_bad_rows_are_named_and_nothing_comes_unless_they_are_left_out(
    door: Door, tmp_path: Path
) -> None:
    tenant, good = door.new_tenant(), new_secret()
    rows = [
        {"hash": sha256(good), "name": "good"},
        {"hash": "no hash", "name": "bad"},
        {"hash": sha256("x"), "name": "zero", "rate_limit_rpm": "0"},
        {"hash": sha256(good), "name": "twice"},
    ]
    path = table(tmp_path / "keys.csv", rows)
    done = door.server.attempt("import_from", "sha256", path, "--tenant", tenant.slug)
    assert done.returncode == 1
    for told in ("line 3 hash:", "line 4 rate_limit_rpm:", "line 5 is the same key as line 2"):
        assert told in done.stderr
    assert call(door, good).status_code == 401
    taken = bring(door, "sha256", path, "--skip-bad", tenant=tenant.slug)
    assert (taken["counts"]["keys"]["added"], len(taken["skipped"])) == (1, 3)
    assert call(door, good).status_code == 200


@pytest.mark.parametrize("form", ["array", "lines", "object"])
def test_json_says_the_same_as_csv(door: Door, tmp_path: Path, form: str) -> None:
    tenant, secret = door.new_tenant(), new_secret()
    row = {
        "sha256": sha256(secret).upper(),
        "name": "ci",
        "scopes": ["inference"],
        "max_concurrency": 2,
    }
    text = {
        "array": json.dumps([row]),
        "lines": json.dumps(row) + "\n",
        "object": json.dumps({"object": "list", "data": [row]}),
    }[form]
    (tmp_path / "keys.json").write_text(text)
    bring(door, "sha256", str(tmp_path / "keys.json"), tenant=tenant.slug)
    assert call(door, secret).status_code == 200
    assert (
        door.client.get("/v1/key", headers={"authorization": f"Bearer {secret}"}).status_code == 403
    )


def test_an_import_is_one_row_of_the_audit_log_with_its_counts(door: Door, tmp_path: Path) -> None:
    tenant, found = door.new_tenant(), [new_secret() for _ in range(30)]
    rows = [{"hash": sha256(each), "name": f"key {n}"} for n, each in enumerate(found)]
    bring(door, "sha256", table(tmp_path / "keys.csv", rows), tenant=tenant.slug)
    [row] = door.server.query(
        "SELECT details FROM tenants_auditevent WHERE action = 'import.carried_out' AND scope LIKE %s",
        [f"%{tenant.id.replace('-', '')[:8]}%"],
    )
    details = row[0] if isinstance(row[0], dict) else json.loads(row[0])
    assert details["counts"]["keys"] == {"added": 30, "existing": 0, "gone": 0}
    written = door.server.everything_written()
    assert not any(sha256(each).encode() in written for each in found), "their hashes stay there"
