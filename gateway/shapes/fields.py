"""Members that many bodies have, by the rules in tenants/validation.py."""

from typing import Any, Final

from gateway.openapi.schemas import (
    ID,
    TEXT,
    Schema,
    answer,
    array,
    fitting,
    integer,
    maybe,
    shown,
    told,
)
from tenants import validation


def named(longest: int = 128, *, least: int = 1) -> Schema:
    """What `validation.name` takes."""
    return {"type": "string", "minLength": least, "maxLength": longest, "format": "name"}


def amount(most_usd: int, *, is_positive: bool, example: str) -> Schema:
    """What `money.parse_usd` takes: a decimal text, or whole dollars as an integer."""
    whole, places = len(str(most_usd)), 9
    most = rf"{most_usd}(?:\.0{{1,{places}}})?"
    less = rf"0?[0-9]{{1,{whole - 1}}}(?:\.[0-9]{{1,{places}}})?"
    not_zero = r"(?!0+(?:\.0+)?$)" if is_positive else ""
    return {
        "type": ["string", "integer"],
        "pattern": f"^{not_zero}(?:{less}|{most})$",
        "minimum": 1 if is_positive else 0,
        "maximum": most_usd,
        "description": "US dollars: a decimal text, or an integer.",
        "examples": [example],
    }


#: By whom something was done.
WHO: Final = answer(
    type=shown(TEXT, "operator"), id=shown(TEXT, ID["examples"][0]), label=shown(TEXT, "ada")
)
#: US dollars in an answer; null: not known, or none.
USD: Final = shown(told(TEXT, "US dollars as a decimal text."), "12.5")
MAYBE_USD: Final = shown(told(maybe(TEXT), "US dollars as a decimal text, or null."), "12.5")
#: Of a limit or a budget, or of what is left of it.
AMOUNT: Final[Schema] = {
    "type": ["integer", "string", "null"],
    "description": "A count, or US dollars as a decimal text.",
    "examples": [60],
}
TEAM: Final = shown(maybe(fitting(f"(?:{validation.TEAM.pattern})?")), "research")
MODEL_PATTERNS: Final = shown(
    told(
        maybe(
            array(fitting(validation.MODEL_PATTERN.pattern), least=1, most=validation.MAX_LISTED)
        ),
        "Names of models, each with `*` at its end or not; null: all.",
    ),
    ["openai/*"],
)
NETWORKS: Final = shown(
    told(
        maybe(array({**TEXT, "format": "network"}, least=1, most=validation.MAX_LISTED)),
        "Addresses and CIDR blocks; null: anywhere.",
    ),
    ["10.0.0.0/8"],
)


def some_of(choices: Any) -> Schema:
    return array({"type": "string", "enum": list(choices)}, least=1, most=validation.MAX_LISTED)


def limit(highest: int, meaning: str, example: int) -> Schema:
    """What `validation.limit` takes."""
    return shown(told(maybe(integer(1, highest)), meaning), example)
