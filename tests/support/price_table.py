"""Writes `providers/price_table.json` from the genai-prices package that is installed: `make price-table`.

Of its providers those that a kind of ours can be, of its models what the table reads; amounts as text, one model a line.
"""

import json
import sys
from importlib.metadata import version
from typing import Any

from genai_prices import types
from genai_prices.data import providers

#: Providers that our kinds are, and those whose models others of them serve.
WANTED = (
    *("anthropic", "aws", "azure", "cohere", "deepseek", "fireworks", "google", "groq", "mistral"),
    *("moonshotai", "openai", "openrouter", "perplexity", "together", "x-ai"),
)
#: Members of a price that say nothing about a call's tokens, images, sound or the call itself.
_NOT_A_CALL = ("web_searches_kcount", "storage_searches_kcount")


def match_of(clause: Any) -> dict[str, Any]:
    ((name, value),) = vars(clause).items()
    if isinstance(value, list):
        return {name.rstrip("_"): [match_of(each) for each in value]}
    return {name: value}


def amount_of(value: Any) -> Any:
    if isinstance(value, types.TieredPrices):
        tiers = [{"start": tier.start, "price": str(tier.price)} for tier in value.tiers]
        return {"base": str(value.base), "tiers": tiers}
    return str(value)


def price_of(price: Any) -> dict[str, Any]:
    given = {name: value for name, value in vars(price).items() if value is not None}
    return {name: amount_of(given[name]) for name in given if name not in _NOT_A_CALL}


def prices_of(model: Any) -> Any:
    if not isinstance(model.prices, list):
        return price_of(model.prices)
    return [
        {
            **({"constraint": _constraint(each.constraint)} if each.constraint else {}),
            "prices": price_of(each.prices),
        }
        for each in model.prices
    ]


def _constraint(constraint: Any) -> dict[str, str]:
    return {name: value.isoformat() for name, value in vars(constraint).items()}


def lines() -> list[str]:
    chosen = [provider for provider in providers if provider.id in WANTED]
    found = [
        "{",
        f'"source": "genai-prices {version("genai-prices")}",',
        '"licence": "MIT, (c) Pydantic Services Inc., github.com/pydantic/genai-prices/LICENSE",',
        '"providers": [',
    ]
    for n, provider in enumerate(chosen):
        head = {"id": provider.id, "api_pattern": provider.api_pattern}
        if provider.fallback_model_providers:
            known = [each for each in provider.fallback_model_providers if each in WANTED]
            head["fallback_model_providers"] = known
        models = [
            json.dumps(
                {
                    "id": model.id,
                    "match": match_of(model.match),
                    **({"context_window": model.context_window} if model.context_window else {}),
                    "prices": prices_of(model),
                },
                ensure_ascii=False,
            )
            for model in provider.models
        ]
        found.append(json.dumps(head)[:-1] + ', "models": [')
        found.append(",\n".join(models))
        found.append("]}" + ("," if n + 1 < len(chosen) else ""))
    return [*found, "]}"]


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")
