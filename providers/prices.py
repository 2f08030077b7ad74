"""Stored prices as the values that costs are worked out from."""

from datetime import datetime

from django.db.models import Exists, OuterRef

from providers.models import Price
from providers.types import PriceTag


def price_tag(price: Price) -> PriceTag:
    """The rates of one dated price, nano-USD per million tokens and per request."""
    return PriceTag(
        id=price.id,
        input=price.input_nano_per_mtok,
        output=price.output_nano_per_mtok,
        cached_input=price.cached_input_nano_per_mtok,
        reasoning=price.reasoning_nano_per_mtok,
        per_request=price.per_request_nano,
    )


def has_price(now: datetime) -> Exists:
    """Of a model: whether its calls are charged by some price now. Without one nobody knows what they cost."""
    return Exists(Price.objects.filter(model=OuterRef("pk"), effective_from__lte=now))
