"""What would become of a call, told to operators: routes, limits and price, with nothing sent, taken or written."""

import json
from uuid import uuid4

import pytest

from keys.services import issue_key, revoke_key
from providers.models import Provider
from tenants.account_services import create_account
from tenants.project_services import create_project
from tenants.services import update_tenant
from tests.cast import Api
from tests.gateway.door import PRICE, Door
from tests.support.contents import contents
from usage.balance_services import top_up


@pytest.fixture
def model(api) -> str:
    for name, kind in (("main", "openai"), ("spare", "groq")):
        api.post("providers", {"name": name, "kind": kind, "api_key": "sk-planted-0123456789"})
    targets = [
        {"provider": "spare", "upstream_model": "second", "priority": 1},
        {"provider": "main", "upstream_model": "first"},
    ]
    body = {"id": "gpt", "targets": targets, "prices": [PRICE], "max_output_tokens": 1000}
    assert api.post("models", body).status_code == 201
    return "gpt"


def simulate(api, name: str = "gpt", **body):
    before = contents()
    answer = api.post(f"models/{name}/simulate", body)
    assert contents() == before
    assert answer.status_code == 200, answer.content
    return answer.json()


def outcomes(card) -> dict[str, str]:
    return {check["check"]: check["outcome"] for check in card["checks"]}


def test_it_tells_which_target_would_serve_at_what_price(api, tenant, model):
    for body in ({}, {"tenant": None, "key": None}, {"tenant": "acme"}, {"tenant": str(tenant.id)}):
        card = simulate(api, **body)
        assert (card["object"], card["dry_run"], card["status"]) == ("simulation", True, None)
        assert card["model"] == "gpt"
        assert card["route"] == {"id": "gpt", "tenant": None}
        assert [(it["name"], it["upstream_model"]) for it in card["targets"]] == [
            ("main", "first"),
            ("spare", "second"),
        ]
        assert card["targets"][0]["provider"] == str(Provider.objects.get(name="main").id)
        assert card["price"]["input_usd_per_mtok"] == "1"
        assert card["bound"]["tokens_out"] == 1000
        assert card["tenant"] == ("acme" if body.get("tenant") else None)
        assert set(outcomes(card).values()) == {"passed", "not asked"}


def test_a_key_is_told_its_own_lists_and_limits(api, staging, tenant, model):
    project = create_project(
        actor=staging, tenant_id=tenant.id, name="p", cost_budget_usd="0.5", daily_limit=7
    )
    issued = issue_key(
        actor=staging,
        tenant_id=tenant.id,
        name="k",
        project=str(project.id),
        rate_limit_rpm=5,
        max_concurrency=2,
        tokens_budget=5_000,
        allowed_models=["gpt*"],
    )
    card = simulate(api, key=str(issued.key.id), tenant="acme")
    assert (card["status"], card["key_id"], card["project"]) == (None, str(issued.key.id), "p")
    limits = {(it["level"], it["unit"]): it for it in card["limits"]}
    tokens = limits["key", "count"]
    assert (tokens["limit"], tokens["before"]) == (5_000, 5_000)
    assert 3_000 < tokens["after"] <= 4_000  # less a thousand of output and a short prompt
    assert limits["project", "usd"]["before"] == "0.5"
    rates = {(it["level"], it["what"], it["seconds"], it["limit"]) for it in card["rates"]}
    assert rates == {
        ("key", "requests", 60, 5),
        ("key", "slots", None, 2),
        ("project", "requests_day", None, 7),
        ("tenant", "requests", 60, 120),
    }


def test_it_says_what_a_call_would_be_refused_for(api, staging, tenant, model):
    key = issue_key(actor=staging, tenant_id=tenant.id, name="k", tokens_budget=100).key
    card = simulate(api, key=str(key.id))
    assert (card["status"], card["error_code"]) == (402, "budget_exhausted")
    assert outcomes(card)["limits"] == "refused"
    assert card["limits"][0]["before"] == card["limits"][0]["after"] == 100
    other = issue_key(actor=staging, tenant_id=tenant.id, name="o", allowed_models=["else"]).key
    card = simulate(api, key=str(other.id))
    assert (card["status"], card["error_code"]) == (403, "model_not_allowed")
    assert (card["targets"], card["route"], card["rates"]) == ([], None, [])


def test_a_balance_is_looked_at_and_may_be_too_small(api, staging, tenant, model):
    account = create_account(actor=staging, tenant_id=tenant.id, username="payer")
    key = issue_key(actor=staging, tenant_id=tenant.id, name="k", account=str(account.id)).key
    card = simulate(api, key=str(key.id))
    assert (card["status"], card["error_code"]) == (402, "balance_exhausted")
    top_up(actor=staging, account_id=account.id, amount_usd="2", note=None)
    card = simulate(api, key=str(key.id))
    assert (card["status"], card["limits"][0]["before"]) == (None, "2")


def test_a_shorter_answer_is_told_where_that_was_asked_for(api, staging, tenant, model):
    key = issue_key(
        actor=staging, tenant_id=tenant.id, name="k", tokens_budget=300, clamp_to_budget=True
    ).key
    card = simulate(api, key=str(key.id))
    assert card["status"] is None
    assert 0 < card["bound"]["tokens_out"] < 300


def test_each_tenant_is_routed_its_own_way(api, tenant, outsider, model):
    api.put(
        f"tenants/{tenant.id}/provider-config",
        {"provider": "openai", "api_key": "sk-own-0123456789"},
    )
    first = simulate(api, tenant="acme")["targets"][0]
    assert (first["name"], first["own_credential"]) == ("own openai", True)
    assert simulate(api, tenant="outsider")["targets"][0]["own_credential"] is False
    api.patch("models/gpt", {"tenants": ["outsider"]})
    card = simulate(api, tenant="acme")  # unlisted, so its own provider takes the name as it is
    assert (card["route"]["id"], card["price"]) == (None, None)
    card = simulate(api)
    assert (card["status"], card["error_code"]) == (404, "model_not_found")
    assert simulate(api, tenant="outsider")["route"]["id"] == "gpt"


def test_a_tenants_own_model_is_asked_as_that_tenant(api, tenant, model):
    target = {"provider": "main", "upstream_model": "mine"}
    api.post("models", {"id": "gpt", "tenant": "acme", "targets": [target]})
    card = simulate(api, tenant="acme")
    assert card["route"] == {"id": "gpt", "tenant": str(tenant.id)}
    answer = api.post("models/gpt/simulate?tenant=acme", {})
    assert answer.json()["targets"][0]["upstream_model"] == "mine"
    assert answer.json()["price"] is None


@pytest.mark.parametrize("how", ["revoked", "tenant"])
def test_who_opens_no_door_is_told_that(api, staging, key, model, how):
    if how == "revoked":
        revoke_key(actor=staging, key_id=key.key.id)
    else:
        update_tenant(actor=staging, tenant_id=key.key.tenant_id, status="inactive")
        assert simulate(api, tenant="acme")["status"] == 401
    card = simulate(api, key=str(key.key.id))
    assert (card["status"], card["error_code"]) == (401, "invalid_api_key")
    assert outcomes(card)["key"] == "refused"


def test_where_a_caller_is_nobody_knows(api, staging, tenant, model):
    key = issue_key(
        actor=staging, tenant_id=tenant.id, name="k", allowed_addresses=["10.0.0.0/8"]
    ).key
    card = simulate(api, key=str(key.id))
    assert (card["status"], outcomes(card)["addresses"]) == (None, "not asked")


def test_an_embedding_and_a_name_with_a_star_are_asked_too(api, model):
    target = {"provider": "main", "upstream_model": "*"}
    api.post("models", {"id": "vec", "capability": "embedding", "targets": [target]})
    api.post("models", {"id": "all/*", "targets": [target]})
    assert simulate(api, "vec")["bound"]["tokens_out"] == 0
    assert simulate(api, "all/*")["status"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tenant": "nobody"}, "tenant"),
        ({"key": "nobody"}, "key"),
        ({"key": str(uuid4())}, "key"),
        ({"key": 7}, "key"),
        ({"prompt": "x"}, "prompt"),
    ],
)
def test_what_means_nothing_is_a_400(api, model, body, field):
    answer = api.post("models/gpt/simulate", body)
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, [field])


def test_a_key_of_another_tenant_and_an_unknown_model_are_refused(api, key, outsider, model):
    answer = api.post("models/gpt/simulate", {"tenant": "outsider", "key": str(key.key.id)})
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["key"])
    assert api.post("models/none/simulate", {}).status_code == 404
    assert api.post("models/gpt/simulate?tenant=acme", {}).status_code == 404


def test_no_model_takes_the_name_of_this_door(api):
    answer = api.post("models", {"id": "x/simulate"})
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["id"])


def test_a_viewer_may_ask(viewer, model):
    assert simulate(Api().signed_in(viewer))["status"] is None


@pytest.mark.data_plane
def test_it_is_what_the_caller_is_told_by_a_dry_run(door: Door) -> None:
    key = door.new_key(tokens_budget=100_000, allowed_models=["oracle/*"])
    name = "oracle/ok"
    with_body = {"model": name, "messages": [{"role": "user", "content": "?"}]}
    dry = {"x-gatehouse-explain": "dry-run"}
    calls = len(door.oracle.calls)
    told = door.post("/v1/chat/completions", with_body, key=key, headers=dry).json()
    card = door.admin.call("POST", "models/oracle/*/simulate", {"key": key.id})
    for same in ("checks", "status", "tenant", "price_id", "key_prefix"):
        assert json.dumps(card[same]) == json.dumps(told[same]), same
    assert card["bound"]["tokens_out"] == told["bound"]["tokens_out"]
    assert card["candidates"] == ["oracle/*"]
    assert told["candidates"] == ["oracle/ok"]
    assert len(door.oracle.calls) == calls
    # A real call is written after these two would have been, and it is alone.
    door.row(door.post("/v1/chat/completions", with_body, key=key))
    of_key = door.server.query(
        "SELECT COUNT(*) FROM usage_requestlog WHERE key_prefix = %s", [key.prefix]
    )
    assert of_key == [(1,)]
