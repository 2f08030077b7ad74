"""Shared accounts and models that are granted to some tenants only; and how long a provider may take: on a real server."""

import time
from uuid import uuid4

import pytest

from tests.gateway.door import Door, Key, error_of, refused
from tests.support.oracle import Oracle

# Which targets are left and how long calls take; grants as rows are in api/test_grants.py, on both.
pytestmark = [pytest.mark.data_plane, pytest.mark.sqlite]


def new_name() -> str:
    return f"m-{uuid4().hex[:10]}"


def listed(door: Door, key: Key) -> set[str]:
    return {each["id"] for each in door.client.get("/v1/models", headers=key.bearer).json()["data"]}


def patch_model(door: Door, name: str, **fields: object) -> None:
    door.change("PATCH", f"models/{name}", fields)


def test_a_model_exists_for_those_alone_that_it_is_granted_to(door: Door) -> None:
    granted, other = door.new_tenant(), door.new_tenant()
    keys = [door.new_key(tenant) for tenant in (granted, other)]
    name = door.new_model(new_name(), door.provider_id, "ok", tenants=[granted.slug])
    assert door.chat(name, key=keys[0]).status_code == 200
    assert name in listed(door, keys[0])
    unknown = refused(door, door.chat(new_name(), key=keys[1]), 404, "model_not_found")
    error = refused(door, door.chat(name, key=keys[1]), 404, "model_not_found")
    assert error["type"] == unknown["type"]
    assert name not in listed(door, keys[1])
    assert door.client.get(f"/v1/models/{name}", headers=keys[1].bearer).status_code == 404
    patch_model(door, name, tenants=[other.id])  # seen by the very next call
    assert door.chat(name, key=keys[1]).status_code == 200
    assert door.chat(name, key=keys[0]).status_code == 404
    patch_model(door, name, tenants=None)
    assert {door.chat(name, key=key).status_code for key in keys} == {200}


def test_without_the_grant_of_its_account_a_target_is_not_there(door: Door, oracle: Oracle) -> None:
    granted, other = door.new_tenant(), door.new_tenant()
    keys = [door.new_key(tenant) for tenant in (granted, other)]
    account = door.new_provider(oracle.api, "sk-granted-0123456789", tenants=[granted.id])
    alone = door.new_model(new_name(), account, "ok")
    targets = [
        {"provider": account, "upstream_model": "ok"},
        {"provider": door.provider_id, "upstream_model": "drip:2x0", "priority": 1},
    ]
    both = new_name()
    door.change("POST", "models", {"id": both, "targets": targets})
    assert door.chat(alone, key=keys[0]).status_code == 200
    refused(door, door.chat(alone, key=keys[1]), 404, "model_not_found")
    assert alone not in listed(door, keys[1])
    answers = [door.chat(both, key=key) for key in keys]
    assert [door.row(answer)["target"] for answer in answers] == ["ok", "drip:2x0"]
    assert len(oracle.made()) == 2
    door.change("PATCH", f"providers/{account}", {"tenants": None})
    assert door.chat(alone, key=keys[1]).status_code == 200
    door.change("PATCH", f"providers/{account}", {"tenants": []})
    assert {door.chat(alone, key=key).status_code for key in keys} == {404}


def test_a_tenants_own_model_does_not_keep_an_account_that_was_withdrawn(
    door: Door, oracle: Oracle
) -> None:
    tenant = door.new_tenant()
    key = door.new_key(tenant)
    account = door.new_provider(oracle.api, "sk-granted-0123456789", tenants=[tenant.id])
    name = door.new_model(new_name(), account, "ok", tenant=tenant.slug)
    assert door.chat(name, key=key).status_code == 200
    door.change("PATCH", f"providers/{account}", {"tenants": []})
    assert door.chat(name, key=key).status_code == 503
    assert len(oracle.made()) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_takes_longer_than_it_may_is_cut_off(door: Door, stream: bool) -> None:
    """The house would wait for half a minute and more in all; nothing is silent for as long as it minds."""
    account = door.new_provider(door.oracle.api, door.upstream_key, timeout_seconds=1)
    name = door.new_model(new_name(), account, "drip:40x0.1")
    began = time.monotonic()
    answer = door.chat(name, stream=stream)
    assert 0.8 < time.monotonic() - began < 3.5
    if stream:
        assert answer.status_code == 200
        assert "upstream_timeout" in answer.text
        assert "[DONE]" not in answer.text
    else:
        assert (answer.status_code, error_of(answer)["code"]) == (504, "upstream_timeout")
    door.change("PATCH", f"providers/{account}", {"timeout_seconds": None})
    assert "[DONE]" in door.chat(name, stream=True).text


def test_a_provider_may_take_longer_than_the_house_lets_others(door: Door) -> None:
    """This house gives up after a second and a half without a byte."""
    for seconds, status in ((None, 504), (6, 200)):
        account = door.new_provider(door.oracle.api, door.upstream_key, timeout_seconds=seconds)
        name = door.new_model(new_name(), account, "slow:2.2")
        assert door.chat(name).status_code == status
