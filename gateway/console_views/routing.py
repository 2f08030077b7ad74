"""Providers and models with what the floors above know of them: how far their budgets are used."""

from typing import Any

from django.http import HttpRequest

from gateway.console_views.limits import limits_panel
from gateway.console_views.rerating import Rerate
from providers.admin import ModelAdmin, ProviderAdmin
from tenants.clock import SYSTEM


class ProviderPages(ProviderAdmin):
    def detail_context(self, request: HttpRequest, thing: Any) -> dict[str, Any]:
        panel = limits_panel("provider", thing, SYSTEM.now())
        return {**super().detail_context(request, thing), "panel": panel}


class ModelPages(ModelAdmin):
    confirmed_actions = (*ModelAdmin.confirmed_actions, Rerate)

    def detail_context(self, request: HttpRequest, thing: Any) -> dict[str, Any]:
        panel = limits_panel("model", thing, SYSTEM.now())
        return {**super().detail_context(request, thing), "panel": panel}
