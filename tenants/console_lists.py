"""How a list of the console may be asked: by its own filters and a short text. The stock admin takes more than that."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

#: Characters, as the field of the lists takes them: each word is a condition on each of the columns that are searched.
_LONGEST_SEARCH = 200


class BoundedList(_ModelAdmin):
    """A page at a time, never all; and no look-up that a URL makes up."""

    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Only what its own filters take: the stock admin takes any look-up on any column, regular expressions among them, and
        SQLite leaves those to Python, where one that does not end stops every call of the worker.
        """
        own: Any = self.list_filter
        return any(lookup == each.parameter_name for each in own)

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> tuple["QuerySet[Any]", bool]:
        return super().get_search_results(request, queryset, search_term[:_LONGEST_SEARCH])
