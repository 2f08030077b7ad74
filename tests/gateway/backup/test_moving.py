"""Configuration of one house into another that has things of its own, by commands and with a real server behind."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.gateway.backup.conftest import Backed, exported
from tests.gateway.door import PROMPT, Admin
from tests.support import environment
from tests.support.server import Server, Yard


@pytest.fixture
def other(yard: Yard, tmp_path: Path) -> Iterator[Server]:
    """A house of somebody else's: its own pepper, its own tenant `default`, the same KEK."""
    folder = tmp_path / "other"
    folder.mkdir()
    with yard.server(folder, kind=environment.database(), redis=None, env={}, seed=True) as server:
        yield server


def test_a_tenant_moves_into_another_house(
    backed: Backed, other: Server, yard: Yard, tmp_path: Path
):
    file = exported(backed.door.server, tmp_path / "moving.jsonl", "--tenant", "moving")
    preview = other.manage("backup", "import", str(file), "--remap-ids", "--preview")
    assert preview["possible"]
    told = other.manage("backup", "import", str(file), "--remap-ids")
    assert told["tables"] == preview["tables"]
    assert told["tables"]["keys.apikey"]["new"] == 2
    assert told["tables"]["keys.keysecret"]["left_out"] == 2
    assert any("2 keys come without their secrets" in each for each in told["warnings"])
    question = 'SELECT level_kind, unit, "window", {} FROM usage_{} WHERE "window" <> \'prepaid\' AND {} > 0'
    opened = other.query(question.format("amount", "opening", "amount"))
    assert opened
    used = backed.door.server.query(question.format("spent", "balance", "spent"))
    assert sorted(opened) == sorted(used)
    other.start()
    try:
        _goes_on(other, backed, Admin(other, yard.operator_password))
    finally:
        other.stop()
    assert other.manage("usage", "reconcile")["ok"]


def _goes_on(other: Server, backed: Backed, admin: Admin) -> None:
    body = {"model": "of-its-own", "messages": PROMPT}
    [tenant] = [each for each in admin.call("GET", "tenants")["data"] if each["slug"] == "moving"]
    assert tenant["id"] != backed.tenant.id
    [account] = admin.call("GET", f"users?tenant={tenant['id']}")["data"]
    before = backed.door.admin.call("GET", f"users?tenant={backed.tenant.id}")["data"][0]
    assert account["balance_usd"] == before["balance_usd"]
    keys = admin.call("GET", f"keys?tenant={tenant['id']}")["data"]
    [key] = [each for each in keys if each["name"] == "k"]
    assert _call(other, backed.key.secret, body).status_code == 401
    fresh = admin.call("POST", f"keys/{key['id']}/rotate")["key"]
    answer = _call(other, fresh, body)
    assert answer.status_code == 200, answer.text
    assert backed.door.oracle.calls[-1].header("authorization") == "Bearer sk-of-its-own"
    admin.close()


def _call(server: Server, secret: str, body: dict) -> httpx.Response:
    return httpx.post(
        f"{server.api}/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {secret}"},
        trust_env=False,
        timeout=30.0,
    )
