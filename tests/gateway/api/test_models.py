"""Models over the admin API: public names, targets, dated prices."""

from uuid import uuid4

import pytest

from providers.models import Model, Price

FIELDS = {
    "id",
    "object",
    "capability",
    "targets",
    "context_window",
    "max_output_tokens",
    "strategy",
    "fallbacks",
    "prices",
    "tenant",
    "tenants",
    "is_active",
    "rate_limits",
    "rate_limit_rpm",
    "daily_limit",
    "burst",
    "rate_limit_tpm",
    "max_concurrency",
    "tokens_budget",
    "tokens_budget_day",
    "tokens_budget_total",
    "cost_budget_usd",
    "cost_budget_day_usd",
    "cost_budget_total_usd",
    "clamp_to_budget",
    "created_at",
}


@pytest.fixture
def provider(api) -> str:
    return str(api.post("providers", {"name": "main", "kind": "openai"}).json()["id"])


def test_a_model_is_made_with_targets_and_prices(api, provider):
    answer = api.post(
        "models",
        {
            "id": "main/gpt-4.1",
            "context_window": 128000,
            "max_output_tokens": 16000,
            "targets": [
                {"provider": "main", "upstream_model": "second", "priority": 1},
                {"provider": provider, "upstream_model": "first", "weight": 1},
            ],
            "prices": [
                {
                    "effective_from": "2030-01-01T00:00:00Z",
                    "input_usd_per_mtok": "2.50",
                    "output_usd_per_mtok": "10",
                    "cached_input_usd_per_mtok": "0.000000001",
                }
            ],
        },
    )
    body = answer.json()
    assert answer.status_code == 201
    assert set(body) == FIELDS
    assert (body["id"], body["object"], body["capability"]) == ("main/gpt-4.1", "model", "chat")
    assert (body["strategy"], body["is_active"]) == ("priority", True)
    assert body["targets"] == [
        {"provider": provider, "upstream_model": "first", "weight": 1, "priority": 0},
        {"provider": provider, "upstream_model": "second", "weight": 1, "priority": 1},
    ]
    assert body["prices"] == [
        {
            "effective_from": "2030-01-01T00:00:00Z",
            "input_usd_per_mtok": "2.5",
            "output_usd_per_mtok": "10",
            "cached_input_usd_per_mtok": "0.000000001",
            "cache_write_usd_per_mtok": None,
            "reasoning_usd_per_mtok": None,
            "per_request_usd": "0",
            "per_image_usd": "0",
            "per_minute_usd": "0",
            "tenant": None,
            "long_context_from_tokens": None,
            "long_context_input_usd_per_mtok": None,
            "long_context_output_usd_per_mtok": None,
            "long_context_cached_input_usd_per_mtok": None,
            "long_context_cache_write_usd_per_mtok": None,
        }
    ]
    assert api.get("models/main/gpt-4.1").json() == body
    assert api.get("models/main%2Fgpt-4.1").json() == body
    assert api.get("models").json()["data"] == [body]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "id"),
        ({"id": ""}, "id"),
        ({"id": "a b"}, "id"),
        ({"id": "a*b"}, "id"),
        ({"id": 7}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"id": "m", "capability": "telepathy"}, "capability"),
        ({"id": "m", "context_window": 0}, "context_window"),
        ({"id": "m", "context_window": 10.0}, "context_window"),
        ({"id": "m", "max_output_tokens": 10**13}, "max_output_tokens"),
        ({"id": "m", "targets": {}}, "targets"),
        ({"id": "m", "targets": [{}]}, "targets"),
        ({"id": "m", "targets": [{"provider": "nobody", "upstream_model": "x"}]}, "targets"),
        ({"id": "m", "targets": [{"provider": ["main"], "upstream_model": "x"}]}, "targets"),
        ({"id": "m", "prices": [{"input_usd_per_mtok": "1"}]}, "prices"),
        (
            {"id": "m", "prices": [{"input_usd_per_mtok": 1, "output_usd_per_mtok": "1"}]},
            "input_usd_per_mtok",
        ),
        ({"id": "m", "prices": ["free"]}, "prices"),
        ({"id": "m", "fallbacks": ["other"]}, "fallbacks"),
        ({"id": "m", "strategy": "weighted"}, "strategy"),
        ({"id": "m", "tenant": "nobody"}, "tenant"),
        ({"id": "m", "tenant_id": str(uuid4())}, "tenant_id"),
        ({"id": "m", "name": "n"}, "name"),
        ({"id": "m", "model_id": str(uuid4())}, "model_id"),
    ],
)
def test_a_model_that_cannot_be_is_a_400(api, provider, body, field):
    answer = api.post("models", body)
    assert answer.status_code == 400
    assert field in str(answer.json()["error"])
    assert not Model.objects.exists()


@pytest.mark.parametrize(
    "amount", ["-1", "NaN", "Infinity", "1e-10", "1e400", "", "1,5", "٣", "1000001"]
)
def test_a_price_that_is_no_amount_is_a_400(api, amount):
    price = {"input_usd_per_mtok": amount, "output_usd_per_mtok": "1"}
    assert api.post("models", {"id": "m", "prices": [price]}).status_code == 400
    assert not Price.objects.exists()


def test_a_name_is_given_once_among_the_shared_and_once_per_tenant(api, tenant, outsider):
    assert api.post("models", {"id": "gpt"}).status_code == 201
    again = api.post("models", {"id": "gpt"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    assert api.post("models", {"id": "gpt", "tenant": "acme"}).status_code == 201
    assert api.post("models", {"id": "gpt", "tenant": str(tenant.id)}).status_code == 409
    assert api.post("models", {"id": "gpt", "tenant": "outsider"}).status_code == 201
    assert api.get("models/gpt").json()["tenant"] is None
    assert api.get("models/gpt?tenant=acme").json()["tenant"] == str(tenant.id)
    assert api.get("models?tenant=acme").json()["total"] == 1
    assert api.get("models/gpt?tenant=nobody").status_code == 400


def test_a_tenant_s_own_model_cannot_use_the_provider_of_another(api, tenant, outsider):
    theirs = api.post("providers", {"name": "t", "kind": "openai", "tenant": "outsider"}).json()
    target = [{"provider": theirs["id"], "upstream_model": "x"}]
    for owner in ("acme", None):
        answer = api.post("models", {"id": "m", "tenant": owner, "targets": target})
        assert answer.status_code == 400
    assert not Model.objects.exists()


def test_a_model_is_changed_and_its_past_prices_stay(api, provider):
    price = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
    api.post("models", {"id": "a/b", "prices": [price]})
    path = "models/a/b"
    later = {**price, "input_usd_per_mtok": "3", "effective_from": "2031-01-01T00:00:00Z"}
    answer = api.patch(path, {"context_window": 5, "is_active": False, "prices": [later]})
    body = answer.json()
    assert (answer.status_code, body["context_window"], body["is_active"]) == (200, 5, False)
    assert [row["input_usd_per_mtok"] for row in body["prices"]] == ["1", "3"]
    past = {**price, "effective_from": "2020-01-01T00:00:00Z"}
    assert api.patch(path, {"prices": [past]}).status_code == 400
    assert api.patch(path, {"context_window": None}).json()["context_window"] is None
    target = {"provider": "main", "upstream_model": "x"}
    assert len(api.patch(path, {"targets": [target]}).json()["targets"]) == 1
    assert api.patch(path, {"targets": [target, target]}).status_code == 400
    assert api.patch(path, {"targets": []}).json()["targets"] == []


@pytest.mark.parametrize("body", [{}, {"id": "other"}, {"tenant": None}, {"actor": 1}])
def test_a_patch_of_nothing_or_of_what_is_fixed_is_a_400(api, body):
    api.post("models", {"id": "m"})
    assert api.patch("models/m", body).status_code == 400


def test_a_model_is_deleted(api):
    api.post("models", {"id": "a/b/c"})
    assert api.delete("models/a/b/c").status_code == 204
    assert api.get("models/a/b/c").status_code == 404


@pytest.mark.parametrize(
    "name", ["nothing", "a/b", "%00", "a%0ab", "x" * 500, "..%2f..%2fetc", "m/"]
)
def test_an_unknown_model_is_a_404(api, name):
    api.post("models", {"id": "m"})
    assert api.get(f"models/{name}").status_code == 404
    assert api.delete(f"models/{name}").status_code == 404
    assert api.patch(f"models/{name}", {"context_window": 1}).status_code == 404


@pytest.mark.parametrize("priority", [False, True, 0.0, "0", -1])
def test_a_priority_that_is_no_number_is_refused_also_where_python_takes_it_for_nought(
    api, priority
):
    api.post("providers", {"name": "main", "kind": "demo"})
    target = {"provider": "main", "upstream_model": "echo", "priority": priority}
    answer = api.post("models", {"id": "new", "targets": [target]})
    assert answer.status_code == 400
    assert "targets" in " ".join(answer.json()["error"]["fields"])


def test_a_number_is_no_provider_and_no_tenant_even_where_one_is_called_that(api):
    api.post("providers", {"name": "7", "kind": "demo"})
    api.post("tenants", {"name": "Seven", "slug": "7"})
    price = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "1"}
    for body in (
        {"targets": [{"provider": 7, "upstream_model": "echo"}]},
        {"prices": [{**price, "tenant": 7}]},
    ):
        assert api.post("models", {"id": "new", **body}).status_code == 400
    named = {"targets": [{"provider": "7", "upstream_model": "echo"}]}
    assert (
        api.post("models", {"id": "new", **named, "prices": [{**price, "tenant": "7"}]}).status_code
        == 201
    )
