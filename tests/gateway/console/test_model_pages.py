"""Models in the console: their ordered targets, their dated prices, and what is asked about first."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from providers import model_services, services
from providers.models import Model, Price, Provider, Target
from tenants.models import AuditEvent
from tests.cast import Console
from tests.gateway.console.names import MODEL_NAMES
from tests.gateway.console.test_provider_pages import assert_inert, text_of
from tests.support.page import Page

PRICE = {"input_usd_per_mtok": "1.25", "output_usd_per_mtok": "10"}


@pytest.fixture
def main(staging, db) -> Provider:
    return services.create_provider(actor=staging, name="main", kind="openai")


@pytest.fixture
def spare(staging, db) -> Provider:
    return services.create_provider(actor=staging, name="spare", kind="groq")


@pytest.fixture
def model(staging, main) -> Model:
    targets = [{"provider": str(main.id), "upstream_model": "gpt-5"}]
    return model_services.create_model(actor=staging, id="gpt-5", targets=targets)


def targets_of(model: Model) -> list[tuple[str, str, int]]:
    rows = Target.objects.filter(model=model).order_by("priority")
    return [
        (row.provider.name if row.provider else "", row.upstream_model, row.priority)
        for row in rows
    ]


# Making and editing


def test_a_model_is_made_with_its_targets_in_order(console, main, spare):
    values = {
        "id": "chat",
        "context_window": "128000",
        "provider-0": str(spare.id),
        "upstream_model-0": "llama",
        "priority-0": "5",
        "provider-2": str(main.id),
        "upstream_model-2": "gpt-5",
    }
    assert console.submit("models/new/", values).status_code == 302
    made = Model.objects.get()
    assert (made.name, made.capability, made.context_window) == ("chat", "chat", 128_000)
    assert targets_of(made) == [("main", "gpt-5", 0), ("spare", "llama", 5)]
    assert "No price is in force" in text_of(console.get(f"models/{made.id}/"))


def test_targets_are_kept_replaced_and_taken_away(console, model, main, spare):
    path = f"models/{model.id}/edit/"
    first = Target.objects.get().id
    console.submit(path, {"context_window": "9000"})
    assert Target.objects.get().id == first
    console.submit(
        path, {"provider-1": str(spare.id), "upstream_model-1": "llama", "priority-1": "1"}
    )
    assert targets_of(model) == [("main", "gpt-5", 0), ("spare", "llama", 1)]
    console.submit(path, {"provider-0": "", "upstream_model-0": ""})
    assert targets_of(model) == [("spare", "llama", 1)]
    model.refresh_from_db()
    assert model.context_window == 9000


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"provider-1": "main"}, "Name the model at this provider"),
        ({"upstream_model-1": "x"}, "Choose one, or empty the row"),
        ({"provider-1": "00000000-0000-0000-0000-000000000000", "upstream_model-1": "x"}, ""),
        ({"context_window": "0"}, "must be between 1 and"),
        ({"context_window": "1.5"}, "must be a positive integer"),
        ({"max_output_tokens": "-1"}, "must be a positive integer"),
        ({"provider-1": "main", "upstream_model-1": "gpt-5"}, "stand there twice"),
        ({"priority-0": "1e3"}, "must be a positive integer"),
        ({"capability": "telepathy"}, ""),
    ],
    ids=[
        "no name",
        "no provider",
        "unknown",
        "zero",
        "fraction",
        "negative",
        "twice",
        "1e3",
        "kind",
    ],
)
def test_what_is_wrong_is_said_and_nothing_happens(console, model, main, values, sentence):
    values = {name: str(main.id) if value == "main" else value for name, value in values.items()}
    answer = console.submit(f"models/{model.id}/edit/", values)
    assert answer.status_code == 400
    assert sentence in text_of(answer)
    assert targets_of(model) == [("main", "gpt-5", 0)]


@pytest.mark.parametrize("name", ["two words", "a*b", "", "gpt-5", "x" * 129])
def test_a_name_that_cannot_be_is_refused(console, model, name):
    answer = console.submit("models/new/", {"id": name})
    assert answer.status_code in {400, 409}
    assert Page(answer.content.decode()).forms[-1]["id"] == name
    assert Model.objects.count() == 1


def test_a_model_of_a_tenant_stands_beside_the_shared_one(console, model, tenant):
    assert console.submit("models/new/", {"id": "gpt-5", "tenant": "acme"}).status_code == 302
    assert Model.objects.filter(name="gpt-5", tenant=tenant).exists()
    shared = text_of(console.get("models/?tenant=shared"))
    assert "1 in all" in shared
    assert "1 in all" in text_of(console.get("models/?tenant=acme"))


# Prices


def test_a_price_is_added_and_the_history_stays(console, model):
    path = f"models/{model.id}/add-price/"
    assert console.submit(path, PRICE).status_code == 302
    later = datetime.now(UTC) + timedelta(days=3)
    values = {**PRICE, "input_usd_per_mtok": "0.5", "effective_from": f"{later:%Y-%m-%dT%H:%M}"}
    assert console.submit(path, values).status_code == 302
    assert sorted(Price.objects.values_list("input_nano_per_mtok", flat=True)) == [
        500_000_000,
        1_250_000_000,
    ]
    page = text_of(console.get(f"models/{model.id}/"))
    assert "In force" in page
    assert "To come" in page
    assert "No price is in force" not in page
    rows = AuditEvent.objects.filter(action="model.updated", source="console")
    assert rows.count() == 2


def test_every_tier_of_a_price_and_a_tenants_own_are_shown(console, model, tenant):
    path = f"models/{model.id}/add-price/"
    tiers = {
        "cache_write_usd_per_mtok": "1.5625",
        "per_image_usd": "0.04",
        "per_minute_usd": "0.006",
        "long_context_from_tokens": "200000",
        "long_context_input_usd_per_mtok": "2.5",
    }
    assert console.submit(path, {**PRICE, **tiers}).status_code == 302
    own = {**PRICE, "input_usd_per_mtok": "0.75", "tenant": tenant.slug}
    assert console.submit(path, own).status_code == 302
    page = text_of(console.get(f"models/{model.id}/"))
    for shown in ("1.5625", "0.04", "0.006", "200,000", "2.5", "0.75", f"only {tenant.name}"):
        assert shown in page
    assert page.count("In force") == 2


def test_a_price_in_the_past_is_refused_with_a_sentence(console, model):
    path = f"models/{model.id}/add-price/"
    assert console.submit(path, {**PRICE, "effective_from": "2020-01-01T00:00"}).status_code == 302
    answer = console.submit(path, {**PRICE, "effective_from": "2020-01-02T00:00"})
    assert answer.status_code == 400
    assert "must not lie in the past" in text_of(answer)
    assert 'href="#id_effective_from"' in answer.content.decode()
    assert Price.objects.count() == 1


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("input_usd_per_mtok", "", "must not be empty"),
        ("input_usd_per_mtok", "-1", "cannot be negative"),
        ("input_usd_per_mtok", "1e2", "digits with at most nine decimals"),
        ("output_usd_per_mtok", "0.0000000001", "digits with at most nine decimals"),
        ("output_usd_per_mtok", "9999999", "at most"),
        ("reasoning_usd_per_mtok", "free", "digits with at most nine decimals"),
        ("effective_from", "tomorrow", "must be a time in UTC"),
        ("long_context_from_tokens", "200k", "must be a positive integer"),
        ("tenant", "nobody", "is no tenant"),
    ],
    ids=[
        *("empty", "negative", "exponent", "too fine", "too dear", "words", "no time"),
        *("no number", "no tenant"),
    ],
)
def test_what_is_no_price_is_refused(console, model, field, value, sentence):
    answer = console.submit(f"models/{model.id}/add-price/", {**PRICE, field: value})
    assert answer.status_code == 400
    assert sentence in text_of(answer)
    assert f'href="#id_{field}"' in answer.content.decode()
    assert not Price.objects.exists()


def test_a_price_sent_twice_is_added_once(console, model):
    path = f"models/{model.id}/add-price/"
    drawn = {**console.form(path), **PRICE}
    answers = [console.post(path, drawn) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [302, 409, 409]
    assert Price.objects.count() == 1


# Asked about first


def test_a_model_is_turned_off_and_on(console, model):
    assert console.submit(f"models/{model.id}/turn-off/").status_code == 302
    assert not Model.objects.get().is_active
    assert "off already" in text_of(console.get(f"models/{model.id}/turn-off/"))
    console.submit(f"models/{model.id}/turn-on/")
    assert Model.objects.get().is_active


def test_a_deleted_model_takes_its_prices_along_and_leaves_the_provider(console, model, main):
    answer = console.submit(f"models/{model.id}/delete/")
    assert answer.headers["location"] == "/console/models/"
    assert not Model.objects.exists()
    assert Provider.objects.get() == main


def test_a_stale_page_does_nothing(console, staging, model):
    for page, values in (("edit", {"context_window": "7"}), ("add-price", PRICE), ("delete", {})):
        drawn = console.form(f"models/{model.id}/{page}/")
        model_services.update_model(
            actor=staging, model_id=model.id, prices=[{**PRICE, "effective_from": None}]
        )
        answer = console.post(f"models/{model.id}/{page}/", {**drawn, **values})
        assert answer.status_code == 409, page
    model.refresh_from_db()
    assert (model.context_window, model.prices.count()) == (None, 3)


@pytest.mark.parametrize("role", ["viewer", "auditor"])
def test_whoever_only_reads_changes_nothing(request, model, role):
    browser = Console().signed_in(request.getfixturevalue(role))
    token = browser.form("password/")["csrfmiddlewaretoken"]
    for page in (
        "new",
        *(f"{model.id}/{it}" for it in ("edit", "add-price", "turn-off", "turn-on", "delete")),
        f"{model.id}/rerate",
    ):
        answer = browser.post(f"models/{page}/", {"csrfmiddlewaretoken": token, "id": "x", **PRICE})
        assert answer.status_code == 403, page
    assert Model.objects.get().is_active
    assert not Price.objects.exists()
    listed = browser.get("models/").content.decode()
    assert "Turn off" not in listed
    assert "New model" not in listed


# Looking


@pytest.fixture
def many(staging, main, spare) -> None:
    for number in range(60):
        prices: dict[str, Any] = {"prices": [PRICE]} if number % 2 else {}
        model_services.create_model(
            actor=staging,
            id=f"m-{number:02}",
            context_window=1000 + number,
            targets=[{"provider": "main", "upstream_model": f"up-{number}"}],
            **prices,
        )


def test_models_are_searched_sorted_and_paged(console, many):
    first = text_of(console.get("models/"))
    assert "60 in all, page 1 of 2" in first
    assert "m-49" in first
    assert "m-50" not in first
    assert "m-50" in text_of(console.get("models/?p=2"))
    assert "m-59" in text_of(console.get("models/?o=-2"))
    assert "1 in all" in text_of(console.get("models/?q=up-17"))
    assert "30 in all" in text_of(console.get("models/?price=none"))
    assert "30 in all" in text_of(console.get("models/?price=set"))
    assert "60 in all" in text_of(console.get("models/?q=main"))


@pytest.mark.parametrize("path", ["models/", "providers/"])
def test_a_list_costs_at_most_six_queries_however_long_it_is(console, many, path):
    counts = []
    for asked in ("?q=m-01", "?q=m"):
        with CaptureQueriesContext(connection) as queries:
            assert console.get(f"{path}{asked}").status_code == 200
        counts.append(len(queries))
    assert max(counts) <= 6, [query["sql"][:90] for query in queries]


def test_fifty_names_that_are_scripts_stay_text(console, staging, main):
    for name in MODEL_NAMES:
        targets = [{"provider": "main", "upstream_model": name}]
        model_services.create_model(actor=staging, id=name, targets=targets)
    assert_inert(console.get("models/"), MODEL_NAMES)
    assert_inert(console.get(f"providers/{main.id}/"), MODEL_NAMES)
    first = Model.objects.get(name=MODEL_NAMES[1])
    for page in ("", "edit/", "turn-off/", "delete/", "add-price/"):
        assert_inert(console.get(f"models/{first.id}/{page}"), MODEL_NAMES[1:2])
