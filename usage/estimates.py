"""What calls would have cost for which no price is known: told beside the cost and called an estimate, never charged.

Nothing of it is stored. It is worked out of the tokens whenever somebody looks, at the default price of the settings; so it
never stands in a ledger, a budget or a balance, and a price that comes later leaves nothing to take back.
"""

from typing import Final
from uuid import UUID

from django.conf import settings

from providers.types import PriceTag, Usage
from usage import pricing

_NO_PRICE: Final = UUID(int=0)


def estimate(tokens_in: int, tokens_out: int) -> int | None:
    """Nano-USD at the default price; None if there is none."""
    default: tuple[int, int] | None = settings.ESTIMATE_PRICE
    if default is None:
        return None
    tag = PriceTag(_NO_PRICE, input=default[0], output=default[1])
    return pricing.cost(Usage(input=tokens_in, output=tokens_out), tag)
