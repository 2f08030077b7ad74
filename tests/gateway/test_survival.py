"""What was used outlives what used it: keys that go, tenants that end, secrets that are replaced."""

from tests.gateway.door import Door, Json, eventually


def logged(door: Door, **query: str) -> list[Json]:
    question = "&".join(f"{name}={value}" for name, value in query.items())
    return list(door.admin.call("GET", f"logs?{question}")["data"])


def audited(door: Door, target: str) -> list[str]:
    rows = door.server.query(
        "SELECT action FROM tenants_auditevent WHERE target_id = %s ORDER BY created_at, seq",
        [target],
    )
    return [str(action) for (action,) in rows]


def test_the_log_and_the_books_of_a_deleted_key_and_of_an_ended_tenant_stay(door: Door) -> None:
    tenant = door.new_tenant()
    first, second = door.new_key(tenant, team="blue"), door.new_key(tenant)
    answers = [door.chat("oracle/ok", key=key) for key in (first, second)]
    before = {answer.headers["x-request-id"]: door.row(answer) for answer in answers}
    eventually(lambda: len(logged(door, tenant=tenant.slug)) == 2)

    door.change("DELETE", f"tenants/{tenant.id}/api-keys/{first.id}?permanent=true")
    (row,) = logged(door, key=first.prefix)
    assert (row["key_id"], row["tenant"], row["team"]) == (first.id, tenant.slug, "blue")

    door.change("DELETE", f"tenants/{tenant.id}?confirm=true")
    assert {row["key_id"] for row in logged(door, tenant=tenant.id)} == {first.id, second.id}
    assert len(logged(door, tenant=tenant.slug)) == 2
    for answer in answers:
        assert door.row(answer) == before[answer.headers["x-request-id"]]
        (entry,) = door.entries(answer)
        assert entry["cost_nano_usd"] == 14_000
        card = door.admin.call("GET", f"logs/{answer.headers['x-request-id']}")
        assert [line["cost_usd"] for line in card["ledger"]] == ["0.000014"]
    assert audited(door, first.id)[-1] == "key.deleted"
    assert audited(door, tenant.id)[-1] == "tenant.deleted"


def test_who_paid_stands_in_the_log_and_in_the_books_after_they_are_deleted(door: Door) -> None:
    tenant = door.new_tenant()
    payer = door.change("POST", "users", {"tenant": tenant.id, "username": "Ada"})
    door.change("POST", f"users/{payer['id']}/top-up", {"amount_usd": "1"})
    key = door.new_key(tenant, account=payer["id"])
    answer = door.chat("oracle/ok", key=key)
    assert answer.status_code == 200
    before = door.row(answer)
    door.change("DELETE", f"users/{payer['id']}")
    (row,) = logged(door, account=payer["id"])
    assert (row["account"], row["status"], row["cost_usd"]) == ("Ada", 200, "0.000014")
    assert door.row(answer) == before
    (entry,) = door.entries(answer)
    assert entry["cost_nano_usd"] == 14_000
    paid = "SELECT account FROM usage_ledgerentry WHERE tenant = %s"
    assert door.server.query(paid, [tenant.slug]) == [("Ada",)]
    assert audited(door, payer["id"])[-1] == "account.deleted"


def test_rotation_neither_resets_nor_loses_what_was_used(door: Door) -> None:
    key = door.new_key(rate_limit_rpm=60, burst=60)
    for _ in range(2):
        assert door.chat("oracle/ok", key=key).status_code == 200
    path = f"keys/{key.id}/usage"
    used = eventually(
        lambda: (body := door.admin.call("GET", path))["requests_this_month"] == 2 and body
    )
    rotated = door.change("POST", f"keys/{key.id}/rotate", {})
    assert door.admin.call("GET", path) == used
    headers = {"authorization": f"Bearer {rotated['key']}"}
    body = {"model": "oracle/ok", "messages": [{"role": "user", "content": "x"}]}
    answer = door.client.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["x-ratelimit-remaining-requests"] == "57"
    eventually(lambda: door.admin.call("GET", path)["requests_this_month"] == 3)
