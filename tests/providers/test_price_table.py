"""What the list of prices says, and what of it becomes a price of ours."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from providers import price_table
from providers.model_services import create_model, price_row, update_model
from providers.models import Model, Price
from providers.price_import import Proposal, complete, import_prices
from providers.price_table import BadTable, Listed, PriceTable
from providers.services import create_provider
from tenants.actor import system_actor
from tenants.errors import Invalid
from tenants.models import AuditEvent
from tests.support.contents import contents

HERE = system_actor("story")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
TIERS = {"base": "1", "tiers": [{"start": 200_000, "price": "2"}]}


def table_of(tmp_path: Path, *models: dict[str, Any], as_theirs: bool = False) -> PriceTable:
    providers = [{"id": "openai", "api_pattern": r"https://api\.openai\.com", "models": models}]
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(providers if as_theirs else {"source": "x", "providers": providers}))
    return price_table.load(file)


def listed(tmp_path: Path, prices: Any) -> Listed:
    table = table_of(tmp_path, {"id": "m", "match": {"equals": "m"}, "prices": prices})
    found = table.find("openai", "", "m", NOW)
    assert found is not None
    return found


# --- the built-in list ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "base_url", "name", "listed_as"),
    [
        ("openai", "", "gpt-4o", "gpt-4o"),
        ("openai", "", "GPT-4o-2024-08-06", "gpt-4o"),
        ("openai", "", "gpt-4o-20240806", "gpt-4o"),
        ("azure", "https://us.openai.azure.com", "gpt-4o", "gpt-4o"),
        ("openai-compatible", "https://api.openai.com/v1", "gpt-4o", "gpt-4o"),
        ("openai", "", "no-such-model", None),
        ("openai-compatible", "https://llm.example/v1", "gpt-4o", None),
        ("openai-compatible", "https://evil.example/https://api.openai.com", "gpt-4o", None),
        ("ollama", "http://127.0.0.1:11434/v1", "gpt-4o", None),
        ("vllm", "", "gpt-4o", None),
    ],
)
def test_a_model_is_found_by_its_providers_list(
    kind: str, base_url: str, name: str, listed_as: str | None
) -> None:
    found = price_table.built_in().find(kind, base_url, name, NOW)
    assert (found and found.name) == listed_as


def test_every_usable_price_of_the_built_in_list_is_one_that_we_take() -> None:
    """Every model of it, through the service's own rules."""
    table = price_table.built_in()
    taken = 0
    for provider in table._providers.values():
        for each in provider.models:
            found = price_table._listed(each, NOW)
            price = None if found.unusable else complete(found.fields, "embedding")
            if price is not None:
                row = price_row("prices", price)
                assert row["input_nano_per_mtok"] >= 0
                taken += 1
    assert taken > 1_400


# --- what a listed price becomes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prices", "fields"),
    [
        ({"input_mtok": "2.50", "output_mtok": 10}, {"input": "2.5", "output": "10"}),
        ({"input_mtok": "0.1234567894"}, {"input": "0.123456789"}),
        (
            {"input_mtok": TIERS, "cache_read_mtok": "0.1", "output_mtok": "5"},
            {"input": "1", "long_context_input": "2", "cached_input": "0.1", "output": "5"},
        ),
        (
            [
                {"prices": {"input_mtok": "1"}},
                {"constraint": {"start_date": "2026-05-01"}, "prices": {"input_mtok": "2"}},
            ],
            {"input": "2"},
        ),
    ],
)
def test_amounts_are_taken_exactly(tmp_path: Path, prices: Any, fields: dict[str, str]) -> None:
    found = listed(tmp_path, prices).fields
    threshold = found.pop("long_context_from_tokens", None)
    assert found == {f"{name}_usd_per_mtok": amount for name, amount in fields.items()}
    assert threshold == (200_000 if "long_context_input" in fields else None)


def test_hours_of_sound_and_thousands_of_requests_become_minutes_and_requests(
    tmp_path: Path,
) -> None:
    found = listed(tmp_path, {"audio_hours": "0.36", "requests_kcount": "5"}).fields
    assert found == {"per_minute_usd": "0.006", "per_request_usd": "0.005"}


def test_of_the_hours_of_a_day_the_dearest_counts_and_a_later_price_is_dated(
    tmp_path: Path,
) -> None:
    night = {"start_time": "16:30:00", "end_time": "00:30:00"}
    found = listed(
        tmp_path,
        [
            {"prices": {"input_mtok": "9"}},
            {"constraint": {"start_date": "2026-01-01"}, "prices": {"input_mtok": "1"}},
            {"constraint": night, "prices": {"input_mtok": "3"}},
            {"constraint": {"start_date": "2026-07-01"}, "prices": {"input_mtok": "2"}},
        ],
    )
    assert found.fields == {"input_usd_per_mtok": "3"}
    assert found.to_come == ((datetime(2026, 7, 1, tzinfo=UTC), {"input_usd_per_mtok": "2"}),)


@pytest.mark.parametrize(
    "prices",
    [
        {},
        {"input_mchars": "15"},
        {"input_mtok": "-1", "output_mtok": "1"},
        {"input_mtok": "NaN"},
        {"input_mtok": "1e999999"},
        {"input_mtok": True},
        {"input_mtok": None},
        {"input_mtok": {"base": "1", "tiers": []}},
        {"input_mtok": {"base": "1", "tiers": [TIERS["tiers"][0], {"start": 9, "price": "1"}]}},
        {"input_mtok": TIERS, "output_mtok": {"base": "1", "tiers": [{"start": 5, "price": "2"}]}},
    ],
)
def test_what_ours_cannot_say_is_no_price_and_never_zero(tmp_path: Path, prices: Any) -> None:
    found = listed(tmp_path, prices)
    assert found.unusable
    assert found.fields == {}


def test_a_chat_model_needs_both_prices_and_what_has_no_place_is_told(tmp_path: Path) -> None:
    assert complete({"input_usd_per_mtok": "1"}, "chat") is None
    embedding = complete({"input_usd_per_mtok": "1"}, "embedding")
    assert embedding == {"input_usd_per_mtok": "1", "output_usd_per_mtok": "0"}
    found = listed(tmp_path, {"input_mtok": "1", "output_mtok": "2", "input_audio_mtok": "40"})
    assert found.left_out == ("input_audio_mtok",)


@pytest.mark.parametrize("text", ["", "5", "{}", "[1]", '{"source":"x","providers":[{}]}', "\xff"])
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadTable):
        price_table.load(file)


def test_their_own_file_is_read_as_well(tmp_path: Path) -> None:
    entry = {"id": "m", "match": {"starts_with": "m"}, "prices": {"input_mtok": 0.1}}
    found = table_of(tmp_path, entry, as_theirs=True).find("openai", "", "m-1", NOW)
    assert found is not None
    assert found.fields == {"input_usd_per_mtok": "0.1"}


# --- import -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(db: None) -> Model:
    create_provider(actor=HERE, name="main", kind="openai", api_key="sk-0123456789abcdef")
    return named("m")


def named(name: str, upstream: str = "m", **more: Any) -> Model:
    targets = [{"provider": "main", "upstream_model": upstream}]
    return create_model(actor=HERE, id=name, targets=targets, **more)


@pytest.fixture
def table(tmp_path: Path) -> PriceTable:
    later = {
        "constraint": {"start_date": "2999-01-01"},
        "prices": {"input_mtok": "9", "output_mtok": "9"},
    }
    return table_of(
        tmp_path,
        {
            "id": "m",
            "match": {"equals": "m"},
            "prices": [{"prices": {"input_mtok": "1", "output_mtok": "2"}}, later],
        },
        {"id": "half", "match": {"equals": "half"}, "prices": {"input_mtok": "1"}},
    )


def states(proposals: list[Proposal]) -> dict[str, str]:
    return {proposal.model.name: proposal.state for proposal in proposals}


def test_a_dry_run_says_what_the_import_then_does(model: Model, table: PriceTable) -> None:
    mine = {"input_usd_per_mtok": "5", "output_usd_per_mtok": "5"}
    named("priced", prices=[mine])
    named("unheard-of", "nobody-knows")
    named("half", "half")
    named("m-*", "m-*")
    named("nowhere")
    Model.objects.get(name="nowhere").targets.all().delete()
    before = contents("providers_price", "tenants_auditevent")
    dry = import_prices(actor=HERE, table=table, dry_run=True)
    assert contents("providers_price", "tenants_auditevent") == before
    assert states(dry) == {
        "m": "added",
        "priced": "replaced",
        "unheard-of": "unknown",
        "half": "unusable",
        "m-*": "unknown",
        "nowhere": "unknown",
    }
    assert states(import_prices(actor=HERE, table=table)) == states(dry)
    assert not Price.objects.filter(model__name__in=("unheard-of", "half", "m-*")).exists()
    prices = model.prices.order_by("effective_from")
    assert [it.input_nano_per_mtok for it in prices] == [10**9, 9 * 10**9]
    assert prices[1].effective_from == datetime(2999, 1, 1, tzinfo=UTC)
    # The price that was in force stays where it is; another follows it.
    history = Price.objects.filter(model__name="priced").order_by("effective_from")
    assert [it.input_nano_per_mtok // 10**9 for it in history] == [5, 1, 9]
    assert AuditEvent.objects.filter(action="model.updated", outcome="ok").count() == 2
    again = import_prices(actor=HERE, table=table)
    assert {states(again)["m"], states(again)["priced"]} == {"same"}


def test_only_what_is_asked_for_is_priced(model: Model, table: PriceTable) -> None:
    mine = {"input_usd_per_mtok": "5", "output_usd_per_mtok": "5"}
    named("n", prices=[mine])
    named("other")
    done = import_prices(actor=HERE, table=table, match="[mn]", missing=True)
    assert states(done) == {"m": "added", "n": "kept"}
    with pytest.raises(Invalid):
        import_prices(actor=HERE, table=table, match="")


def test_prices_that_were_announced_here_are_left_alone(model: Model, table: PriceTable) -> None:
    soon = datetime.now(UTC) + timedelta(days=1)
    mine = {"input_usd_per_mtok": "5", "output_usd_per_mtok": "5", "effective_from": soon}
    update_model(actor=HERE, model_id=model.id, prices=[mine])
    import_prices(actor=HERE, table=table)
    dated = model.prices.order_by("effective_from").values_list("input_nano_per_mtok", flat=True)
    assert list(dated) == [10**9, 5 * 10**9]
