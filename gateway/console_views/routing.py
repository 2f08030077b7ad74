"""Providers and models with what the floors above know of them: how far their budgets are used."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest

from gateway.console_views.limits import limits_panel
from gateway.console_views.rerating import Rerate
from providers.admin import ModelAdmin, ProviderAdmin
from tenants.clock import SYSTEM
from usage.flights import in_flight


class ProviderPages(ProviderAdmin):
    def list_context(self, request: HttpRequest, rows: Sequence[Any]) -> dict[str, Any]:
        context = super().list_context(request, rows)
        calls = in_flight([row.id for row in rows])
        for each in context["listed"]:
            each["in_flight"] = calls[each["it"].id]
        return context

    def detail_context(self, request: HttpRequest, thing: Any) -> dict[str, Any]:
        panel = limits_panel("provider", thing, SYSTEM.now())
        calls = in_flight([thing.id])[thing.id]
        return {**super().detail_context(request, thing), "panel": panel, "in_flight": calls}


class ModelPages(ModelAdmin):
    confirmed_actions = (*ModelAdmin.confirmed_actions, Rerate)

    def detail_context(self, request: HttpRequest, thing: Any) -> dict[str, Any]:
        panel = limits_panel("model", thing, SYSTEM.now())
        return {**super().detail_context(request, thing), "panel": panel}
