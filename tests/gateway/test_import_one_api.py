"""From one-api and new-api: tokens go on opening the door, with what is left of their quota and of their users'."""

import secrets
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.door import Door, opened
from tests.gateway.moving import bring, budget_of, call, database, refused, table
from tests.support.server import Yard

CHANNEL_KEY = "sk-channel-of-one-api-0123456789"
ALPHABET = string.ascii_letters + string.digits


@pytest.fixture(scope="module")
def door(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with opened(yard, tmp_path_factory.mktemp("one-api")) as door:
        yield door


def new_token() -> str:
    """The 48 characters that stand in the table."""
    return "".join(secrets.choice(ALPHABET) for _ in range(48))


def a_token(key: str, name: str, **fields: Any) -> dict[str, Any]:
    return {
        "user_id": 1,
        "key": key,
        "status": 1,
        "name": name,
        "created_time": 1_700_000_000,
        "expired_time": -1,
        "remain_quota": 0,
        "unlimited_quota": 1,
        "used_quota": 0,
        "models": None,
        "subnet": "",
        **fields,
    }


def a_user(number: int, **fields: Any) -> dict[str, Any]:
    user = {"id": number, "username": f"user{number}", "status": 1, "email": ""}
    return {**user, "quota": 50_000_000, "used_quota": 0, **fields}


def a_channel(door: Door, models: str, **fields: Any) -> dict[str, Any]:
    """An address there is without `/v1`."""
    return {
        "id": 1,
        "type": 1,
        "key": CHANNEL_KEY,
        "status": 1,
        "name": "main",
        "base_url": door.oracle.api.removesuffix("/v1"),
        "models": models,
        "model_mapping": "",
        "priority": 0,
        **fields,
    }


def test_tokens_of_one_api_open_the_door_with_what_is_left_of_their_quota(
    door: Door, tmp_path: Path
) -> None:
    tenant = door.new_tenant()
    free, rationed, used_up, listed, placed, off, expired, of_nobody = (
        new_token() for _ in range(8)
    )
    place = database(
        tmp_path / "one-api.db",
        {
            "tokens": [
                a_token(free, "free"),
                a_token(
                    rationed,
                    "rationed",
                    unlimited_quota=0,
                    remain_quota=500_000,
                    used_quota=4_500_000,
                ),
                a_token(used_up, "used up", unlimited_quota=0, status=4, used_quota=1_000),
                a_token(listed, "listed", models="quick,gone"),
                a_token(placed, "placed", subnet="192.0.2.0/24"),
                a_token(off, "off", status=2),
                a_token(expired, "expired", status=3, expired_time=1_700_000_000),
                a_token(of_nobody, "of somebody banned", user_id=2),
            ],
            "users": [a_user(1, email="ada@example.org"), a_user(2, status=2)],
            "channels": [
                a_channel(
                    door, "quick,slow", model_mapping='{"quick": "tokens:3", "slow": "tokens:5"}'
                ),
                a_channel(door, "quick", id=2, name="other", type=15, key="x"),
            ],
        },
    )
    done = bring(door, "one-api", "--database", place, tenant=tenant.slug)
    assert {kind: of["added"] for kind, of in done["counts"].items()} == {
        "providers": 1,
        "models": 2,
        "projects": 0,
        "accounts": 2,
        "keys": 8,
    }
    assert ("channel other", "type 15") in {(it["whose"], it["what"]) for it in done["left_behind"]}
    # Models of theirs have no price that anybody knows, and a budget needs one.
    price = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
    for model in door.admin.call("GET", f"models?tenant={tenant.slug}")["data"]:
        door.change("PATCH", f"models/{model['id']}?tenant={tenant.slug}", {"prices": [price]})
    answer = call(door, f"sk-{free}", "quick")
    assert (answer.status_code, door.upstream_call(answer).model) == (200, "tokens:3")
    assert door.row(answer)["key_prefix"] == f"sk-{free[:6]}"
    budget = budget_of(door, f"sk-{rationed}", "key", "total")
    assert (budget["limit"], budget["spent"], budget["remaining"]) == ("10", "9", "1")
    assert call(door, f"sk-{used_up}", "quick").status_code == 402
    assert call(door, f"sk-{listed}", "slow").status_code == 403
    assert call(door, f"sk-{placed}", "quick").json()["error"]["code"] == "address_not_allowed"
    unknown = refused(door, f"sk-{new_token()}")
    for each in (off, expired, of_nobody):
        assert refused(door, f"sk-{each}") == unknown
    balance = door.server.manage("balance", "show", "--tenant", tenant.slug, "--account", "user1")
    assert balance["credited_usd"] == "100"
    again = bring(door, "one-api", "--database", place, tenant=tenant.slug)
    assert sum(of["added"] for of in again["counts"].values()) == 0
    written = door.server.everything_written()
    assert CHANNEL_KEY.encode() not in written
    assert free.encode() not in written


def test_tokens_of_new_api_come_as_csv(door: Door, tmp_path: Path) -> None:
    tenant, wide, narrow = door.new_tenant(), new_token(), new_token()
    newer = {"model_limits_enabled": "true", "model_limits": "oracle/tokens:3,x", "allow_ips": ""}
    rows = [
        {**a_token(wide, "wide", unlimited_quota="true"), **newer, "model_limits_enabled": "false"},
        {**a_token(narrow, "narrow", unlimited_quota="true"), **newer},
        {**a_token(new_token(), "deleted"), **newer, "deleted_at": "2026-01-01"},
    ]
    done = bring(
        door, "one-api", "--tokens", table(tmp_path / "tokens.csv", rows), tenant=tenant.slug
    )
    assert done["counts"]["keys"]["added"] == 2
    assert call(door, f"sk-{wide}", "oracle/ok").status_code == 200
    assert call(door, f"sk-{narrow}", "oracle/tokens:3").status_code == 200
    assert call(door, f"sk-{narrow}", "oracle/ok").status_code == 403
