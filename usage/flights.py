"""How many calls each provider has in flight, over all workers."""

from collections.abc import Collection
from uuid import UUID

from django.db.models import Count

from usage.models import Hold


def in_flight(provider_ids: Collection[UUID]) -> dict[UUID, int]:
    """Calls that were open when their worker wrote to the tables last, a quarter of a second ago at most."""
    counted = Hold.objects.filter(provider_id__in=provider_ids).values("provider_id")
    found = {row["provider_id"]: row["calls"] for row in counted.annotate(calls=Count("pk"))}
    return {each: found.get(each, 0) for each in provider_ids}
