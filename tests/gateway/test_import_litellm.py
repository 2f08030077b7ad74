"""From LiteLLM: its configuration becomes providers and models, its tables keys that open the door with their limits."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.gateway.door import Door, opened
from tests.gateway.moving import (
    bring,
    budget_of,
    call,
    database,
    new_secret,
    refused,
    sha256,
    table,
)
from tests.support import services
from tests.support.server import Yard

KEYS, TEAMS, USERS = "LiteLLM_VerificationToken", "LiteLLM_TeamTable", "LiteLLM_UserTable"
UPSTREAM_KEY = "sk-upstream-of-litellm-0123456789"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def door(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    env = {"LITELLM_UPSTREAM_KEY": UPSTREAM_KEY}
    with opened(yard, tmp_path_factory.mktemp("litellm"), env) as door:
        yield door


def a_key(secret: str, alias: str, **fields: Any) -> dict[str, Any]:
    """A row as LiteLLM writes it."""
    return {
        "token": sha256(secret),
        "key_name": f"sk-...{secret[-4:]}",
        "key_alias": alias,
        "spend": 0.0,
        "expires": None,
        "models": [],
        "aliases": {},
        "config": {},
        "user_id": "default_user_id",
        "team_id": None,
        "max_parallel_requests": None,
        "metadata": {},
        "blocked": None,
        "tpm_limit": None,
        "rpm_limit": None,
        "max_budget": None,
        "budget_duration": None,
        "budget_reset_at": None,
        "budget_id": None,
        "created_at": "2026-01-01 00:00:00",
        **fields,
    }


def config(door: Door, path: Path, **more: Any) -> str:
    """JSON is YAML, too."""
    base = {"api_base": door.oracle.api, "api_key": "os.environ/LITELLM_UPSTREAM_KEY"}
    whole = {
        "model_list": [
            {
                "model_name": "gpt-fast",
                "litellm_params": {
                    "model": "openai/tokens:3",
                    **base,
                    "input_cost_per_token": 1e-06,
                    "output_cost_per_token": 2e-06,
                },
                "model_info": {"access_groups": ["beta"]},
            },
            {
                "model_name": "gpt-slow",
                "litellm_params": {
                    "model": "openai/tokens:5",
                    **base,
                    "rpm": 600,
                    "temperature": 0.5,
                    "input_cost_per_token": 1e-06,
                    "output_cost_per_token": 2e-06,
                },
            },
            {"model_name": "claude", "litellm_params": {"model": "vertex_ai/claude-3"}},
        ],
        "litellm_settings": {"drop_params": True},
        "general_settings": {"master_key": "sk-1234"},
        **more,
    }
    path.write_text(json.dumps(whole))
    return str(path)


def left(done: dict[str, Any]) -> set[tuple[str, str]]:
    return {(it["whose"], it["what"]) for it in done["left_behind"]}


def test_a_key_table_of_litellm_opens_the_door_with_its_limits(door: Door, tmp_path: Path) -> None:
    tenant = door.new_tenant()
    plain, rated, spent, listed, blocked, expired, of_team = (new_secret() for _ in range(7))
    soon = (NOW + timedelta(days=9)).isoformat()
    place = database(
        tmp_path / "litellm.db",
        {
            KEYS: [
                a_key(plain, "plain"),
                a_key(rated, "rated", rpm_limit=2, tpm_limit=100_000, max_parallel_requests=4),
                a_key(
                    spent,
                    "spent",
                    max_budget=10.0,
                    spend=9.9999995,
                    budget_duration="30d",
                    budget_reset_at=soon,
                ),
                a_key(listed, "listed", models=["beta"], aliases={"gpt-4": "gpt-fast"}),
                a_key(blocked, "blocked", blocked=1),
                a_key(expired, "expired", expires="2026-02-01 00:00:00"),
                a_key(of_team, "of-team", team_id="t-1", max_budget=5, spend=4.5),
                a_key(new_secret(), "", team_id="litellm-dashboard"),
            ],
            TEAMS: [
                {
                    "team_id": "t-1",
                    "team_alias": "Night shift",
                    "max_budget": 20.0,
                    "spend": 12.25,
                    "models": ["gpt-slow", "gpt-fast"],
                    "rpm_limit": 500,
                    "blocked": 0,
                }
            ],
        },
    )
    done = bring(
        door,
        "litellm",
        "--config",
        config(door, tmp_path / "c.yaml"),
        "--keys",
        place,
        tenant=tenant.slug,
    )
    assert {kind: of["added"] for kind, of in done["counts"].items()} == {
        "providers": 1,
        "models": 2,
        "projects": 1,
        "accounts": 0,
        "keys": 7,
    }
    # The keys as LiteLLM made them, at the public door.
    first = call(door, plain, "gpt-fast")
    assert (first.status_code, door.upstream_call(first).model) == (200, "tokens:3")
    assert door.row(first)["key_prefix"] == f"sk-...{plain[-4:]}"
    [line] = door.entries(first)
    assert line["cost_nano_usd"] == line["tokens_in"] * 1000 + line["tokens_out"] * 2000 > 0
    assert [call(door, rated, "gpt-fast").status_code for _ in range(3)] == [200, 200, 429]
    over = call(door, spent, "gpt-fast", max_tokens=100)
    assert (over.status_code, over.json()["error"]["code"]) == (402, "budget_exhausted")
    assert budget_of(door, spent, "key", "month")["remaining"] == "0.0000005"
    assert call(door, listed, "gpt-fast").status_code == 200
    answer = call(door, listed, "gpt-slow")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")
    unknown = refused(door, new_secret())
    assert [refused(door, each) for each in (blocked, expired)] == [unknown] * 2
    assert call(door, of_team, "gpt-slow").status_code == 200
    assert call(door, of_team, "oracle/ok").status_code == 403
    assert budget_of(door, of_team, "project", "total")["limit"] == "20"
    assert float(budget_of(door, of_team, "project", "total")["remaining"]) <= 7.75
    assert float(budget_of(door, of_team, "key", "total")["remaining"]) <= 0.5
    # What has no place here is named.
    assert {
        ("key listed", "aliases"),
        ("dashboard", "1 sessions"),
        ("model claude", "vertex_ai/claude-3"),
        ("model gpt-slow", "litellm_params.temperature"),
        ("config", "litellm_settings.drop_params"),
        ("config", "general_settings.master_key"),
    } <= left(done)
    # A second time nothing is new; what came from elsewhere is sealed.
    again = bring(
        door,
        "litellm",
        "--config",
        config(door, tmp_path / "c.yaml"),
        "--keys",
        place,
        tenant=tenant.slug,
    )
    assert sum(of["added"] for of in again["counts"].values()) == 0
    assert again["counts"]["keys"]["existing"] == 7
    assert UPSTREAM_KEY.encode() not in door.server.everything_written()
    outsider = door.new_key(door.new_tenant())
    assert door.chat("gpt-fast", key=outsider).status_code == 404, "another tenant's"


def test_a_user_with_a_budget_becomes_an_account_with_what_is_left_of_it(
    door: Door, tmp_path: Path
) -> None:
    tenant, ada, bob, eve = door.new_tenant(), new_secret(), new_secret(), new_secret()
    place = database(
        tmp_path / "litellm.db",
        {
            KEYS: [
                a_key(ada, "ada's", user_id="ada"),
                a_key(bob, "bob's", user_id="bob"),
                a_key(eve, "eve's", user_id="eve"),
            ],
            USERS: [
                {"user_id": "ada", "max_budget": 10, "spend": 9.0, "models": []},
                {"user_id": "bob", "max_budget": 1, "spend": 1.25, "models": []},
                {"user_id": "eve", "max_budget": None, "spend": 3.0, "models": ["oracle/*"]},
            ],
        },
    )
    done = bring(door, "litellm", "--keys", place, tenant=tenant.slug)
    assert done["counts"]["accounts"]["added"] == 2
    balance = door.server.manage("balance", "show", "--tenant", tenant.slug, "--account", "ada")
    assert (balance["credited_usd"], balance["spent_usd"], balance["balance_usd"]) == (
        "10",
        "9",
        "1",
    )
    assert call(door, ada).status_code == 200
    answer = call(door, bob)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "balance_exhausted")
    assert call(door, eve).status_code == 200
    assert call(door, eve, "embed/x").status_code == 403
    assert ("users", "1 without a budget") in left(done)
    assert door.server.manage("usage", "reconcile")["differences"] == []


def test_what_lets_nothing_through_there_is_paused_here(door: Door, tmp_path: Path) -> None:
    tenant, found = door.new_tenant(), [new_secret() for _ in range(5)]
    rows = [
        a_key(found[0], "no money", max_budget=0),
        a_key(found[1], "no requests", rpm_limit=0),
        a_key(found[2], "no models", models=["no-default-models"]),
        a_key(found[3], "apart", models=["gpt-4o"], team_id="narrow"),
        a_key(found[4], "of a blocked team", team_id="stopped"),
    ]
    teams = [
        {"team_id": "narrow", "team_alias": "Twins", "models": ["gpt-5*"], "blocked": False},
        {"team_id": "stopped", "team_alias": "twins", "models": [], "blocked": True},
    ]
    place = database(tmp_path / "litellm.db", {KEYS: rows, TEAMS: teams})
    done = bring(door, "litellm", "--keys", place, tenant=tenant.slug)
    assert done["counts"]["keys"]["added"] == 5
    assert done["counts"]["projects"]["added"] == 2, "teams of one name stay two"
    unknown = refused(door, new_secret())
    assert [refused(door, each) for each in found] == [unknown] * 5
    named = {whose for whose, _ in left(done)}
    assert {"key no money", "key no requests", "key no models", "key apart"} <= named


def test_windows_that_are_not_ours_become_stricter_and_are_named(
    door: Door, tmp_path: Path
) -> None:
    tenant, weekly, over = door.new_tenant(), new_secret(), new_secret()
    rows = [
        a_key(weekly, "weekly", max_budget=3, spend=1, budget_duration="7d"),
        a_key(
            over,
            "over",
            max_budget=3,
            spend=3,
            budget_duration="1mo",
            budget_reset_at="2026-01-01T00:00:00",
        ),
    ]
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": rows}))
    done = bring(door, "litellm", "--keys", str(path), tenant=tenant.slug)
    assert ("key weekly", "budget_duration 7d") in left(done)
    assert budget_of(door, weekly, "key", "month")["remaining"] == "2"
    assert budget_of(door, over, "key", "month")["remaining"] == "3", "that month is over"


def test_tables_come_as_csv_as_postgres_writes_it(door: Door, tmp_path: Path) -> None:
    tenant, secret = door.new_tenant(), new_secret()
    row = a_key(secret, "ci", team_id="t-9", budget_id="b-1")
    row |= {"models": "{oracle/*,all-team-models}", "metadata": '{"model_rpm_limit": {"x": 1}}'}
    row |= {"aliases": "{}", "config": "{}", "blocked": "f"}
    team = {
        "team_id": "t-9",
        "team_alias": "Night",
        "models": '{"oracle/tokens:3"}',
        "blocked": "f",
    }
    budget = {"budget_id": "b-1", "max_budget": "2.5", "rpm_limit": "2", "soft_budget": "1"}
    done = bring(
        door,
        "litellm",
        *("--keys", table(tmp_path / "keys.csv", [row])),
        *("--teams", table(tmp_path / "teams.csv", [team])),
        *("--budgets", table(tmp_path / "budgets.csv", [budget])),
        tenant=tenant.slug,
    )
    assert {("key ci", "metadata.model_rpm_limit"), ("key ci", "soft_budget")} <= left(done)
    assert call(door, secret, "oracle/ok").status_code == 403
    answers = [call(door, secret).status_code for _ in range(3)]
    assert answers == [200, 200, 429]
    assert budget_of(door, secret, "key", "total")["limit"] == "2.5"


def test_a_postgres_of_litellm_is_read(door: Door, tmp_path: Path) -> None:
    services.need_postgres()
    tenant, secret = door.new_tenant(), new_secret()
    with services.postgres_database() as address:
        with psycopg.connect(address) as connection:
            connection.execute(
                'CREATE TABLE "LiteLLM_VerificationToken" (token text PRIMARY KEY, key_name text,'
                " key_alias text, spend double precision, expires timestamp(3), models text[],"
                " aliases jsonb, blocked boolean, rpm_limit bigint, max_budget double precision,"
                " budget_duration text, metadata jsonb)"
            )
            connection.execute(
                'INSERT INTO "LiteLLM_VerificationToken" VALUES'
                " (%s, %s, 'ci', 0.1, '2030-01-01', '{oracle/*}', '{}', NULL, NULL, 0.3, '1d', '{}')",
                [sha256(secret), f"sk-...{secret[-4:]}"],
            )
        bring(door, "litellm", "--keys", address, tenant=tenant.slug)
        wrong = address.replace("LiteLLM", "x").rpartition("/")[0] + "/nobody_has_this"
        failed = door.server.attempt("import_from", "litellm", "--keys", wrong)
        assert failed.returncode == 1
        assert "cannot be read" in failed.stderr
        assert "nobody_has_this" not in failed.stderr
    assert call(door, secret).status_code == 200
    budget = budget_of(door, secret, "key", "day")
    assert (budget["limit"], budget["spent"][:3]) == ("0.3", "0.1")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("model_list: [", "is no YAML"),
        ("model_list: 5", "must be a list"),
        ("[]", "must be a mapping"),
        ("model_list: [{model_name: a}]", "model_list[0] litellm_params: must be a mapping"),
        (
            "model_list: [{model_name: a, litellm_params: {model: openai/x, api_base: 'http://10.0.0.1/v1'}}]",
            "model_list[0] api_base:",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_whole(
    door: Door, tmp_path: Path, document: str, told: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(document)
    before = door.count("providers_provider"), door.count("tenants_configchange")
    failed = door.server.attempt("import_from", "litellm", "--config", str(path))
    assert (failed.returncode, told in failed.stderr) == (1, True), failed.stderr
    assert (door.count("providers_provider"), door.count("tenants_configchange")) == before


def test_the_same_account_is_one_provider_and_shared_models_are_everybodys(
    door: Door, tmp_path: Path
) -> None:
    base = {"api_base": door.oracle.api, "api_key": "sk-a-0123456789"}
    other = {**base, "api_key": "sk-b-0123456789"}
    entries = [
        {"model_name": "both", "litellm_params": {"model": "openai/tokens:3", **base}},
        {"model_name": "both", "litellm_params": {"model": "openai/tokens:5", **other}},
        {"model_name": "wide/*", "litellm_params": {"model": "openai/*", **base}},
    ]
    router = {"model_group_alias": {"either": "both"}, "num_retries": 2}
    path = config(door, tmp_path / "c.yaml", model_list=entries, router_settings=router)
    tenant = door.new_tenant()
    done = bring(door, "litellm", "--config", path, "--shared", tenant=tenant.slug)
    assert (done["counts"]["providers"]["added"], done["counts"]["models"]["added"]) == (2, 3)
    assert {("model both", "2 deployments"), ("config", "router_settings.num_retries")} <= left(
        done
    )
    outsider = door.new_key(door.new_tenant())
    for name, upstream in (("either", "tokens:3"), ("wide/tokens:7", "tokens:7")):
        answer = door.chat(name, key=outsider)
        assert answer.status_code == 200, answer.text
        assert door.upstream_call(answer).model == upstream
