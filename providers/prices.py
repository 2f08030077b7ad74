"""Stored prices as the values that costs are worked out from."""

from datetime import datetime

from django.db.models import Exists, OuterRef

from providers.models import Model, Price
from providers.types import PriceTag


def price_tag(price: Price) -> PriceTag:
    """The rates of one dated price."""
    return PriceTag(
        id=price.id,
        input=price.input_nano_per_mtok,
        output=price.output_nano_per_mtok,
        cached_input=price.cached_input_nano_per_mtok,
        reasoning=price.reasoning_nano_per_mtok,
        per_request=price.per_request_nano,
        cache_write=price.cache_write_nano_per_mtok,
        per_image=price.per_image_nano,
        per_minute=price.per_minute_nano,
        long_from=price.long_context_from_tokens,
        long_input=price.long_context_input_nano_per_mtok,
        long_output=price.long_context_output_nano_per_mtok,
        long_cached_input=price.long_context_cached_input_nano_per_mtok,
        long_cache_write=price.long_context_cache_write_nano_per_mtok,
    )


def has_price(now: datetime) -> Exists:
    """Of a model: whether its calls are charged by some price now. Without one nobody knows what they cost."""
    in_force = Price.objects.filter(model=OuterRef("pk"), tenant=None, effective_from__lte=now)
    return Exists(in_force)


def price_in_force(model: Model, now: datetime) -> Price | None:
    """What everybody pays who has no price of their own; None if nobody knows."""
    listed = model.prices.filter(tenant=None, effective_from__lte=now)
    return listed.order_by("-effective_from").first()
