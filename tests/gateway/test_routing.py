"""Whose upstream, by whose credential: two tenants and the shared one, and what a change does to the very next call."""

import contextlib
import ipaddress
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.gateway.door import PROMPT, Door, Key, Tenant, error_of, eventually, opened
from tests.support.oracle import Oracle
from tests.support.server import Server, Yard


@pytest.fixture(scope="module")
def house(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A server of this module's own, because what is changed here is what all tenants share."""
    with opened(yard, tmp_path_factory.mktemp("routing")) as door:
        yield door


@pytest.fixture
def other_oracle() -> Iterator[Oracle]:
    with Oracle() as running:
        yield running


def new_name() -> str:
    return f"m-{uuid4().hex[:10]}"


def own_config(house: Door, tenant: Tenant, oracle: Oracle, api_key: str) -> None:
    body = {"provider": "openai-compatible", "base_url": oracle.api, "api_key": api_key}
    house.change("PUT", f"tenants/{tenant.id}/provider-config", body)


def credentials_of(oracle: Oracle) -> list[str | None]:
    """What each call so far was authorised by."""
    return [call.header("authorization") for call in oracle.made()]


def served(house: Door, model: str, key: Key) -> None:
    answer = house.chat(model, key=key)
    assert answer.status_code == 200, answer.text


# --- whose ------------------------------------------------------------------------------------------------------------


def test_two_tenants_reach_their_own_upstream_by_the_same_name_and_a_third_the_shared_one(
    house: Door, oracle: Oracle, other_oracle: Oracle
) -> None:
    name = house.new_model(new_name(), house.provider_id, "ok")
    first, second, third = (house.new_tenant() for _ in range(3))
    own_config(house, first, oracle, "sk-first-0123456789")
    own_config(house, second, other_oracle, "sk-second-0123456789")
    keys = [house.new_key(tenant) for tenant in (first, second, third)]
    shared_before = len(house.oracle.made())
    for _ in range(3):
        for key in keys:
            served(house, name, key)
    assert credentials_of(oracle) == ["Bearer sk-first-0123456789"] * 3
    assert credentials_of(other_oracle) == ["Bearer sk-second-0123456789"] * 3
    shared = credentials_of(house.oracle)[shared_before:]
    assert shared == [f"Bearer {house.upstream_key}"] * 3


def test_after_its_removal_a_tenant_is_back_on_the_shared_one(house: Door, oracle: Oracle) -> None:
    tenant = house.new_tenant()
    key = house.new_key(tenant)
    name = house.new_model(new_name(), house.provider_id, "ok")
    own_config(house, tenant, oracle, "sk-own-0123456789")
    served(house, name, key)
    shared = len(house.oracle.made())
    house.change("DELETE", f"tenants/{tenant.id}/provider-config")
    served(house, name, key)
    assert len(oracle.made()) == 1
    assert len(house.oracle.made()) == shared + 1


def test_an_unlisted_model_needs_a_provider_of_ones_own(house: Door, oracle: Oracle) -> None:
    tenant, name = house.new_tenant(), new_name()
    key = house.new_key(tenant)
    before = len(house.oracle.calls)
    answer = house.chat(name, key=key)
    assert (answer.status_code, error_of(answer)["code"]) == (404, "model_not_found")
    own_config(house, tenant, oracle, "sk-own-0123456789")
    answer = house.chat(name, key=key)
    assert answer.status_code == 200
    assert house.row(answer)["cost_nano_usd"] is None
    assert [call.model for call in oracle.made()] == [name]
    assert house.chat(name).status_code == 404
    assert len(house.oracle.calls) == before


def test_a_tenants_own_model_comes_before_the_shared_one_of_that_name(
    house: Door, oracle: Oracle
) -> None:
    name = house.new_model(new_name(), house.provider_id, "ok")
    tenant = house.new_tenant()
    provider = house.new_provider(oracle.api, "sk-mine-0123456789", tenant=tenant.id)
    house.new_model(name, provider, "drip:2x0", tenant=tenant.id)
    answer = house.chat(name, key=house.new_key(tenant))
    assert answer.json()["usage"]["completion_tokens"] == 2
    assert house.chat(name).json()["usage"]["completion_tokens"] == 5
    assert credentials_of(oracle) == ["Bearer sk-mine-0123456789"]


@pytest.mark.sqlite
def test_a_failing_own_provider_is_not_replaced_by_the_shared_one(house: Door) -> None:
    """Nor the other way round: nobody pays with somebody else's credential because his own one failed."""
    tenant = house.new_tenant()
    name = house.new_model(new_name(), house.provider_id, "ok")
    with closing(socket.socket()) as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        body = {"provider": "openai-compatible", "base_url": url, "api_key": "sk-own-0123456789"}
        house.change("PUT", f"tenants/{tenant.id}/provider-config", body)
        before = len(house.oracle.calls)
        answer = house.chat(name, key=house.new_key(tenant))
    assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_error")
    assert len(house.oracle.calls) == before


@pytest.mark.sqlite
def test_a_second_target_serves_when_the_first_is_not_there(house: Door, oracle: Oracle) -> None:
    with closing(socket.socket()) as closed:
        closed.bind(("127.0.0.1", 0))
        dead = house.new_provider(f"http://127.0.0.1:{closed.getsockname()[1]}/v1", None)
        alive = house.new_provider(oracle.api, "sk-second-0123456789")
        targets = [
            {"provider": dead, "upstream_model": "ok", "priority": 0},
            {"provider": alive, "upstream_model": "ok", "priority": 1},
        ]
        name = new_name()
        house.change("POST", "models", {"id": name, "targets": targets})
        answer = house.chat(name)
    assert answer.status_code == 200
    assert answer.headers["x-gatehouse-attempts"] == "2"
    assert [attempt["outcome"] for attempt in house.attempts(answer)] == ["connect", "ok"]
    assert oracle.made()[0].attempt_id == f"{house.row(answer)['request_id']}-2"


# --- the very next call -----------------------------------------------------------------------------------------------


def test_a_changed_provider_is_used_by_the_very_next_call(
    house: Door, oracle: Oracle, other_oracle: Oracle
) -> None:
    provider = house.new_provider(oracle.api, "sk-one-0123456789")
    name, where = house.new_model(new_name(), provider, "ok"), f"providers/{provider}"
    served(house, name, house.key)

    house.change("POST", f"{where}/rotate-credential", {"api_key": "sk-two-0123456789"})
    served(house, name, house.key)
    assert credentials_of(oracle) == ["Bearer sk-one-0123456789", "Bearer sk-two-0123456789"]

    moved = {"base_url": other_oracle.api, "api_key": "sk-three-0123456789"}
    house.change("PATCH", where, moved)
    served(house, name, house.key)
    assert len(oracle.made()) == 2
    assert credentials_of(other_oracle) == ["Bearer sk-three-0123456789"]

    house.change("PATCH", where, {"api_key": None})
    served(house, name, house.key)
    assert credentials_of(other_oracle)[-1] is None

    house.change("PATCH", where, {"is_active": False})
    answer = house.chat(name)
    assert (answer.status_code, error_of(answer)["code"]) == (503, "not_ready")
    assert answer.headers["retry-after"]
    house.change("PATCH", where, {"is_active": True})
    served(house, name, house.key)

    house.change("DELETE", f"{where}?unlink=true")
    assert house.chat(name).status_code == 503
    assert len(other_oracle.made()) == 3


def test_a_changed_model_is_used_by_the_very_next_call(house: Door) -> None:
    name = house.new_model(new_name(), house.provider_id, "drip:2x0")
    assert house.chat(name).json()["usage"]["completion_tokens"] == 2
    target = {"provider": house.provider_id, "upstream_model": "drip:3x0"}
    house.change("PATCH", f"models/{name}", {"targets": [target]})
    assert house.chat(name).json()["usage"]["completion_tokens"] == 3
    house.change("PATCH", f"models/{name}", {"is_active": False})
    assert house.chat(name).status_code == 404
    house.change("DELETE", f"models/{name}")
    assert house.chat(name).status_code == 404


def test_a_stored_credential_does_not_move_to_another_host(
    house: Door, oracle: Oracle, other_oracle: Oracle
) -> None:
    provider = house.new_provider(oracle.api, "sk-one-0123456789")
    name = house.new_model(new_name(), provider, "ok")
    with pytest.raises(AssertionError, match=r"400 .*must be entered again"):
        house.change("PATCH", f"providers/{provider}", {"base_url": other_oracle.api})
    served(house, name, house.key)
    assert len(oracle.made()) == 1
    assert not other_oracle.made()


# --- what was tampered with -------------------------------------------------------------------------------------------


def execute(server: Server, statement: str, parameters: list[object]) -> None:
    """A change that no service made."""
    parts = urlsplit(server.database_url)
    if parts.scheme != "sqlite":
        with psycopg.connect(server.database_url) as connection:
            assert connection.execute(statement.encode(), parameters).rowcount == 1
        return
    with closing(sqlite3.connect(parts.path[1:], timeout=20, isolation_level=None)) as database:
        assert database.execute(statement.replace("%s", "?"), parameters).rowcount == 1


def stored_id(house: Door, identity: str) -> str:
    """An id as the database writes it."""
    return identity.replace("-", "") if house.on_sqlite else identity


def sealed_of(house: Door, provider: str) -> bytes:
    [(sealed,)] = house.server.query(
        "SELECT sealed FROM providers_credential WHERE provider_id = %s AND retired_at IS NULL",
        [stored_id(house, provider)],
    )
    return bytes(sealed)


def tamper(house: Door, provider: str, sealed: bytes) -> None:
    """Put another text in place, and have the picture read anew by a change that touches nothing of it."""
    execute(
        house.server,
        "UPDATE providers_credential SET sealed = %s WHERE provider_id = %s AND retired_at IS NULL",
        [sealed, stored_id(house, provider)],
    )
    house.new_provider("http://127.0.0.1:9/v1", None)
    house.wait_seen()


@pytest.mark.sqlite
@pytest.mark.parametrize("how", ["a flipped bit", "cut", "emptied", "another's"])
def test_a_tampered_credential_stops_its_provider_alone_and_is_audited(
    house: Door, oracle: Oracle, how: str
) -> None:
    provider = house.new_provider(oracle.api, "sk-one-0123456789")
    neighbour = house.new_provider(oracle.api, "sk-two-0123456789")
    name = house.new_model(new_name(), provider, "ok")
    beside = house.new_model(new_name(), neighbour, "ok")
    served(house, name, house.key)
    good = sealed_of(house, provider)
    bad = {
        "a flipped bit": good[:-1] + bytes([good[-1] ^ 1]),
        "cut": good[:-4],
        "emptied": b"",
        "another's": sealed_of(house, neighbour),
    }[how]
    tamper(house, provider, bad)
    for _ in range(3):
        answer = house.chat(name)
        assert (answer.status_code, error_of(answer)["code"]) == (503, "credential_unreadable")
        assert answer.headers["retry-after"]
    row = house.row(answer)
    assert (row["status"], row["error_code"]) == (503, "credential_unreadable")
    assert house.attempts(answer) == []
    served(house, beside, house.key)
    served(house, "oracle/ok", house.key)
    assert credentials_of(oracle) == ["Bearer sk-one-0123456789", "Bearer sk-two-0123456789"]
    eventually(lambda: audited(house, provider) == [("provider.credential_unreadable", "failed")])
    house.change("PATCH", f"providers/{provider}", {"api_key": "sk-new-0123456789"})
    served(house, name, house.key)
    assert credentials_of(oracle)[-1] == "Bearer sk-new-0123456789"
    house.assert_nothing_left()


def audited(house: Door, provider: str) -> list[tuple[str, str]]:
    """What the audit log says of a provider since it was made."""
    return [
        (str(action), str(outcome))
        for action, outcome in house.server.query(
            "SELECT action, outcome FROM tenants_auditevent WHERE target_id = %s"
            " AND action NOT IN ('provider.created', 'provider.updated') ORDER BY seq",
            [provider],
        )
    ]


def test_the_audit_log_of_all_this_is_whole(house: Door) -> None:
    assert house.server.attempt("audit", "verify").returncode == 0


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/v1",
        "https://10.0.0.1/v1",
        "https://[::ffff:10.0.0.1]/v1",
        "https://[64:ff9b::a9fe:a9fe]/v1",
        "https://0x7f000001.example.invalid:99999/v1",
        "https://2130706433@10.0.0.1/v1",
        "file:///etc/passwd",
        "https://192.168.1.1:6666\\@127.0.0.1/v1",
        "https://[::1]/v1",
        "ftp://127.0.0.1/v1",
        "//127.0.0.1/v1",
    ],
)
def test_no_provider_can_be_pointed_inside(house: Door, url: str) -> None:
    tenant = house.new_tenant()
    body = {"provider": "openai-compatible", "base_url": url, "api_key": "sk-own-0123456789"}
    with pytest.raises(AssertionError, match=r": 400 .*base_url"):
        house.change("PUT", f"tenants/{tenant.id}/provider-config", body)
    fields = {"name": new_name(), "kind": "openai-compatible", "base_url": url}
    with pytest.raises(AssertionError, match=r": 400 .*base_url"):
        house.change("POST", "providers", fields)


@pytest.mark.sqlite
def test_an_address_that_is_no_longer_allowed_is_not_connected_to(
    yard: Yard, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Saved while it was allowed, by number and by names that resolve to this machine; then the allowance is gone."""
    names = names_of_this_machine()
    allowed = {"GATEHOUSE_ALLOWED_UPSTREAMS": ",".join(["127.0.0.0/8", *names])}
    with (
        opened(yard, tmp_path_factory.mktemp("ssrf"), allowed) as door,
        socket.create_server(("", 0)) as trap,
    ):
        trap.settimeout(0.3)
        port = trap.getsockname()[1]
        urls = [f"http://127.0.0.1:{port}/v1", f"https://127.0.0.1:{port}/v1"]
        urls += [f"https://{name}:{port}/v1" for name in names]
        providers = [door.new_provider(url, "sk-own-0123456789") for url in urls]
        models = [door.new_model(new_name(), provider, "ok") for provider in providers]
        door.server.stop()
        door.server.env["GATEHOUSE_ALLOWED_UPSTREAMS"] = ""
        door.server.start()
        for url, model in zip(urls, models, strict=True):
            answer = post_again(door, model)
            expected = {502: "upstream_error", 503: "not_ready"}
            assert expected.get(answer.status_code) == error_of(answer)["code"], url
            assert not any(word in answer.text for word in ("127.0.0.1", "localhost", str(port)))
        with pytest.raises(TimeoutError):
            trap.accept()
        outcomes = door.server.query("SELECT outcome FROM usage_attempt")
        assert set(outcomes) == {("refused_address",)}


def names_of_this_machine() -> list[str]:
    """Names that resolve to addresses which no provider may have."""
    names = ["localhost"]
    with contextlib.suppress(OSError):
        own = socket.gethostname().lower()
        found = socket.getaddrinfo(own, None, type=socket.SOCK_STREAM)
        if not any(ipaddress.ip_address(address[4][0]).is_global for address in found):
            names.append(own)
    return names


def post_again(door: Door, model: str) -> httpx.Response:
    """A call on a new connection: the server has been restarted."""
    return httpx.post(
        f"{door.server.url}/v1/chat/completions",
        json={"model": model, "messages": PROMPT},
        headers=door.key.bearer,
        trust_env=False,
    )
