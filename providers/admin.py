"""The console's pages of providers and models."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from django.contrib.admin import SimpleListFilter
from django.db.models import Count, Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path

from providers import credentials, discovery, grants, model_services, presets, services
from providers.console_actions import MODEL_ACTIONS, PROVIDER_ACTIONS
from providers.console_forms import (
    ImportForm,
    ModelForm,
    ProviderForm,
    offered_tenants,
    preset_choices,
)
from providers.console_grants import granted_names, initial_grants
from providers.health import health_of
from providers.models import Model, Price, Provider, Target
from providers.prices import has_price
from tenants.actor import Actor
from tenants.clock import SYSTEM
from tenants.console import HouseAdmin
from tenants.console_parts import TenantFilter
from tenants.errands import actor_of, require, show_refusal
from tenants.errors import Invalid, NotFound, ServiceError
from tenants.limit_rules import LIMITS
from tenants.services import find_tenant

SHARED: Final = "shared"
#: Models that a provider's page names; the list of models has them all.
_NAMED: Final = 50


class OwnerFilter(TenantFilter):
    """`?tenant=` by slug or id; `shared` is what belongs to nobody."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        named = [(slug, name) for slug, name in super().lookups(request, model_admin) if slug]
        return [(SHARED, "Shared"), *named]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        if self.value() == SHARED:
            return queryset.filter(tenant=None)
        return super().queryset(request, queryset)


class OnOrOff(SimpleListFilter):
    title = "state"
    parameter_name = "state"
    as_select = True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("on", "On"), ("off", "Off")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        value = self.value()
        return queryset.filter(is_active=value == "on") if value in {"on", "off"} else queryset


def _tenant_id(reference: str | None) -> UUID | None:
    """Of what was typed into a form; nothing is shared."""
    if not reference:
        return None
    try:
        return find_tenant(reference).id
    except NotFound:
        raise Invalid.field("tenant", "is no tenant; give its slug or id, or nothing.") from None


class ProviderAdmin(HouseAdmin):
    slug = "providers"
    title = "Providers"
    singular = "provider"
    kind = services.KIND
    icon = "i-load"
    list_template = "console/providers/list.html"
    detail_template = "console/providers/detail.html"
    edit_template = "console/providers/edit.html"
    house_form = ProviderForm
    confirmed_actions = PROVIDER_ACTIONS
    list_display = ("name", "kind", "is_active")
    list_filter: ClassVar[Any] = [OwnerFilter, OnOrOff]
    search_fields = ("name", "kind", "base_url")
    search_help_text = "Name, kind or address"
    ordering = ("name", "id")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<str:object_id>/test/", view(self.test_view), name="providers-test"),
            path("<str:object_id>/import/", view(self.import_view), name="providers-import"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        rows = credentials.marked(super().get_queryset(request).select_related("tenant"))
        return rows.annotate(model_count=Count("targets__model", distinct=True))

    # Writing

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A new one begins with the question of which kind: `new/?kind=openai`. What the form asks for depends on it."""
        require(request, self.writers)
        if request.GET.get("kind") in presets.PRESETS:
            return super().add_view(request)
        context = {
            "title": f"New {self.singular}",
            "kinds": preset_choices(),
            "crumbs": self.crumbs(None, f"New {self.singular}"),
        }
        return render(request, "console/providers/kinds.html", context)

    def initial(self, request: HttpRequest, thing: Any | None) -> dict[str, Any]:
        """Never a credential, whatever the URL says."""
        if thing is None:
            kind = request.GET["kind"]
            return {"kind": kind, "name": kind, "tenant": request.GET.get("tenant", "")}
        return {
            name: getattr(thing, name)
            for name in (
                *("name", "base_url", "disconnect_policy", "timeout_seconds"),
                *services.ACCOUNT_FIELDS,
                *LIMITS,
            )
        } | initial_grants(thing)

    def form_options(self, request: HttpRequest, thing: Any | None) -> dict[str, Any]:
        if thing is None:
            preset = presets.preset(request.GET["kind"])
            return {"preset": preset, "tenants": offered_tenants()}
        return {
            "preset": presets.preset(thing.kind),
            "has_credential": thing.has_api_key,
            "is_new": False,
            "is_shared": thing.tenant_id is None,
        }

    def create(self, actor: Actor, form: Any) -> Provider:
        values = form.given()
        tenant_id = _tenant_id(values.pop("tenant", None))
        return services.create_provider(actor=actor, tenant_id=tenant_id, **values)

    def alter(self, actor: Actor, thing: Any, values: dict[str, Any]) -> None:
        services.update_provider(actor=actor, provider_id=thing.id, **values)

    def version_parts(self, thing: Any) -> Iterable[str]:
        """With its credential, and with what routes to it: pages that ask before a change name those models."""
        current = credentials.current(thing)
        targets = thing.targets.values_list("id", flat=True)
        tied = (str(each) for each in (*targets, *(grants.granted_ids(thing) or ())))
        return (str(current.id if current else ""), *sorted(tied))

    # Looking

    def list_context(self, request: HttpRequest, rows: Sequence[Any]) -> dict[str, Any]:
        states = health_of(rows)
        return {
            "listed": [
                {"it": row, "preset": presets.preset(row.kind), "health": states[row.id]}
                for row in rows
            ]
        }

    def detail_context(self, request: HttpRequest, thing: Any) -> dict[str, Any]:
        targets = thing.targets.select_related("model").order_by("model__name", "priority")
        return {
            "preset": presets.preset(thing.kind),
            "account_fields": sorted(services.dialect_of(thing.kind).FIELDS),
            "credential": credentials.current(thing),
            "targets": targets[:_NAMED],
            "granted": granted_names(thing),
            "health": health_of([thing])[thing.id],
            "may_change": self.has_change_permission(request, thing),
        }

    # Asking the upstream

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A harmless call with what is stored. Only a POST makes it; it changes nothing but the audit log."""
        require(request, self.writers)
        thing = self.existing(request, object_id)
        if request.method != "POST":
            return HttpResponseRedirect(self.place_of(thing))
        try:
            outcome: dict[str, Any] = {
                "tested": discovery.test_provider(actor=actor_of(request), provider_id=thing.id)
            }
        except ServiceError as refusal:
            outcome = {"refused": refusal.message}
        context = {
            "title": f"Test of {thing.name}",
            "admin": self,
            "thing": thing,
            "crumbs": self.crumbs(thing, "Test"),
            "back": self.place_of(thing),
            **outcome,
        }
        return render(request, "console/providers/tested.html", context)

    def import_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take over what the upstream lists. Sent twice it finds every name taken, so it needs no ticket."""
        require(request, self.writers)
        thing = self.existing(request, object_id)
        form = ImportForm(request.POST if request.method == "POST" else None)
        result, status = None, 200
        if request.method == "POST":
            if form.is_valid():
                try:
                    result = discovery.import_models(
                        actor=actor_of(request),
                        provider_id=thing.id,
                        match=form.cleaned_data["match"],
                    )
                except ServiceError as refusal:
                    status = show_refusal(form, refusal)
            else:
                status = 400
        context = {
            "title": f"Import models of {thing.name}",
            "admin": self,
            "thing": thing,
            "form": form,
            "result": result,
            "crumbs": self.crumbs(thing, "Import models"),
            "back": self.place_of(thing),
        }
        return render(request, "console/providers/import.html", context, status=status)


# --- models -----------------------------------------------------------------------------------------------------------


def _prices_now(models: Sequence[Model], now: datetime) -> Mapping[UUID, Price]:
    """The price that each is charged by now, where there is one."""
    found: dict[UUID, Price] = {}
    in_force = Price.objects.filter(model__in=models, tenant=None, effective_from__lte=now)
    for price in in_force.order_by("effective_from"):
        found[price.model_id] = price
    return found


class PriceFilter(SimpleListFilter):
    """Models whose calls cost nobody knows what."""

    title = "price"
    parameter_name = "price"
    as_select = True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("none", "No price now"), ("set", "Priced")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        priced = has_price(SYSTEM.now())
        return {"set": queryset.filter(priced), "none": queryset.exclude(priced)}.get(
            self.value() or "", queryset
        )


class ModelAdmin(HouseAdmin):
    slug = "models"
    title = "Models"
    singular = "model"
    kind = model_services.KIND
    icon = "i-info"
    list_template = "console/models/list.html"
    detail_template = "console/models/detail.html"
    edit_template = "console/models/edit.html"
    house_form = ModelForm
    confirmed_actions = MODEL_ACTIONS
    list_display = ("name", "capability", "context_window", "is_active", "created_at")
    list_filter: ClassVar[Any] = [OwnerFilter, OnOrOff, PriceFilter]
    search_fields = ("name", "targets__upstream_model", "targets__provider__name")
    search_help_text = "Public id, upstream model or provider"
    ordering = ("name", "id")

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        targets = Target.objects.select_related("provider").order_by("priority", "id")
        return (
            super()
            .get_queryset(request)
            .select_related("tenant")
            .prefetch_related(Prefetch("targets", targets))
        )

    def initial(self, request: HttpRequest, thing: Any | None) -> dict[str, Any]:
        if thing is not None:
            return {
                name: getattr(thing, name)
                for name in ("capability", "context_window", "max_output_tokens", *LIMITS)
            } | initial_grants(thing)
        given = {name: request.GET[name] for name in ("id", "tenant") if name in request.GET}
        return {**given, "provider-0": request.GET.get("provider", "")}

    def form_options(self, request: HttpRequest, thing: Any | None) -> dict[str, Any]:
        usable = Provider.objects.filter(Q(tenant=None) | Q(tenant_id=thing and thing.tenant_id))
        if thing is None:
            usable = Provider.objects.select_related("tenant")
        providers = [(str(each.id), _named(each)) for each in usable.order_by("name")[:500]]
        if thing is None:
            return {"providers": providers, "tenants": offered_tenants()}
        return {
            "providers": providers,
            "targets": list(thing.targets.all()),
            "is_new": False,
            "is_shared": thing.tenant_id is None,
        }

    def create(self, actor: Actor, form: Any) -> Model:
        values = form.given()
        tenant_id = _tenant_id(values.pop("tenant", None))
        return model_services.create_model(actor=actor, tenant_id=tenant_id, **values)

    def alter(self, actor: Actor, thing: Any, values: dict[str, Any]) -> None:
        model_services.update_model(actor=actor, model_id=thing.id, **values)

    def version_parts(self, thing: Any) -> Iterable[str]:
        targets = (
            f"{target.provider_id} {target.upstream_model} {target.priority}"
            for target in thing.targets.all()
        )
        prices = (f"{price.id}" for price in thing.prices.all())
        granted = (str(each) for each in grants.granted_ids(thing) or ())
        return (*sorted(targets), *sorted(prices), *granted)

    def list_context(self, request: HttpRequest, rows: Sequence[Any]) -> dict[str, Any]:
        prices = _prices_now(rows, SYSTEM.now())
        return {"listed": [{"it": row, "price": prices.get(row.id)} for row in rows]}

    def detail_context(self, request: HttpRequest, thing: Any) -> dict[str, Any]:
        now = SYSTEM.now()
        prices = list(thing.prices.select_related("tenant").order_by("-effective_from"))
        in_force: dict[UUID | None, Price] = {}
        for price in reversed(prices):
            if price.effective_from <= now:
                in_force[price.tenant_id] = price
        return {
            "prices": prices,
            "in_force": in_force.get(None),
            "all_in_force": list(in_force.values()),
            "now": now,
            "targets": list(thing.targets.all()),
            "granted": granted_names(thing),
            "may_change": self.has_change_permission(request, thing),
        }


def _named(provider: Provider) -> str:
    owner = f" ({provider.tenant.name})" if provider.tenant is not None else ""
    return f"{provider.name}{owner}{'' if provider.is_active else ', off'}"
