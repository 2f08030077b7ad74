"""One field for everything: what somebody has in hand is a name, a slug or the visible part of a key."""

from collections.abc import Sequence
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from tenants.console import HouseAdmin

_MOST: Final = 10
_MAX_CHARACTERS: Final = 200


def found_by(request: HttpRequest, admins: Sequence[HouseAdmin], text: str) -> list[dict[str, Any]]:
    """Per kind of thing the first few that match, of what this role may see."""
    groups = []
    for admin in admins:
        if not admin.search_fields or not admin.has_view_permission(request):
            continue
        rows, doubled = admin.get_search_results(request, admin.get_queryset(request), text)
        rows = (rows.distinct() if doubled else rows).order_by(*(admin.ordering or ("pk",)))
        things = [(admin.label_of(row), admin.place_of(row), row) for row in rows[:_MOST]]
        if things:
            groups.append({"admin": admin, "things": things, "is_full": len(things) == _MOST})
    return groups


def page(request: HttpRequest, admins: Sequence[HouseAdmin]) -> HttpResponse:
    text = request.GET.get("q", "").replace("\0", "").strip()[:_MAX_CHARACTERS]
    groups = found_by(request, admins, text) if text else []
    return render(
        request, "console/search.html", {"title": "Search", "text": text, "groups": groups}
    )
