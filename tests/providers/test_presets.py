"""The table of well-known providers."""

from decimal import Decimal

import pytest

from providers import price_table
from providers.dialects import dialect
from providers.presets import PRESETS, Preset, UnknownKind, ollama_base_url, preset
from providers.price_import import complete
from tenants.clock import SYSTEM
from tenants.outbound import AddressFilter

EVERY = pytest.mark.parametrize("known", PRESETS.values(), ids=PRESETS.keys())


@EVERY
def test_a_base_url_passes_the_filter(known: Preset) -> None:
    if known.base_url:
        parsed = AddressFilter(["127.0.0.0/8"]).check_url(known.base_url)
        assert str(parsed) == known.base_url
        assert known.needs_key == (parsed.scheme == "https")


@EVERY
def test_a_row_is_whole(known: Preset) -> None:
    assert preset(known.name) is known
    spoken = dialect(known.dialect)
    assert known.dialect == spoken.NAME
    # Where an address is each customer's own, a key in the environment is not enough.
    assert bool(known.env_key) is (known.needs_key and bool(known.base_url))
    ids = [model.upstream_id for model in known.models]
    assert len(set(ids)) == len(ids)


@EVERY
def test_what_a_preset_names_has_a_price_in_the_table(known: Preset) -> None:
    """These are what an installation without a way out gets, and under a budget nothing runs without a price."""
    table = price_table.built_in()
    for model in known.models:
        assert model.capability in ("chat", "embedding")
        listed = table.find(known.name, known.base_url, model.upstream_id, SYSTEM.now())
        assert listed is not None, model.upstream_id
        price = complete(listed.fields, model.capability)
        assert price is not None, (model.upstream_id, listed)
        cached = price.get("cached_input_usd_per_mtok") or price["input_usd_per_mtok"]
        assert 0 <= Decimal(cached) <= Decimal(price["input_usd_per_mtok"]) < 200


def test_an_unknown_kind_says_what_is_known() -> None:
    with pytest.raises(UnknownKind, match="'azur'; known are openai, "):
        preset("azur")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434/v1"),
        ("127.0.0.1", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0:1234", "http://127.0.0.1:1234/v1"),
        (":1234", "http://127.0.0.1:1234/v1"),
        ("[::]:1234", "http://[::1]:1234/v1"),
        ("ollama.lan", "http://ollama.lan:11434/v1"),
        ("http://ollama.lan", "http://ollama.lan:80/v1"),
        ("https://ollama.example", "https://ollama.example:443/v1"),
        ("https://ollama.example:8443/api/", "https://ollama.example:8443/api/v1"),
        (' "localhost:5" ', "http://localhost:5/v1"),
        ("'10.0.0.5'", "http://10.0.0.5:11434/v1"),
        ("::1", "http://[::1]:11434/v1"),
        ("[::1]", "http://[::1]:11434/v1"),
        ("[::1]:1337", "http://[::1]:1337/v1"),
        ("::", "http://[::1]:11434/v1"),
        ("ollama.lan:8080/", "http://ollama.lan:8080/v1"),
        ("http://10.0.0.5:4321", "http://10.0.0.5:4321/v1"),
        ("https://proxy.example/ollama", "https://proxy.example:443/ollama/v1"),
        ("https://proxy.example/ollama/v1/", "https://proxy.example:443/ollama/v1"),
        (":66000", "http://127.0.0.1:11434/v1"),
        (":-1", "http://127.0.0.1:11434/v1"),
        ("http://ollama.lan:many", "http://ollama.lan:80/v1"),
        ("ollama.com", "https://ollama.com:443/v1"),
    ],
)
def test_ollamas_own_variable_is_read_as_ollama_reads_it(host: str, url: str) -> None:
    assert ollama_base_url(host) == url
