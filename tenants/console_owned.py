"""Pages of what belongs to exactly one tenant for good: whose it is gets decided when it is made, and never again."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from tenants.console import TenantScopedAdmin
from tenants.console_forms import HouseForm
from tenants.console_parts import OFFERED_TENANTS, Crumb
from tenants.errands import require
from tenants.errors import NotFound
from tenants.models import Tenant
from tenants.services import find_tenant


class OwnedForm(HouseForm):
    """Knows whose thing it is about; the tenant itself is no field of it."""

    def __init__(self, *args: Any, tenant: Tenant, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tenant = tenant


class TenantOwnedAdmin(TenantScopedAdmin):
    """A new one begins with the question whose it is: `new/?tenant=acme`. Its form is an `OwnedForm`."""

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        require(request, self.writers)
        if not request.GET.get("tenant"):
            return self._ask_whose(request)
        return self._form_page(request, None)

    def _ask_whose(self, request: HttpRequest) -> HttpResponse:
        offered = Tenant.objects.filter(status=Tenant.Status.ACTIVE).order_by("name")
        context = {
            "title": f"New {self.singular}",
            "admin": self,
            "tenants": offered[: OFFERED_TENANTS + 1],
            "most": OFFERED_TENANTS,
            "crumbs": self.crumbs(None, f"New {self.singular}"),
            "given": [(name, value) for name, value in request.GET.items() if name != "tenant"],
        }
        return render(request, "console/whose.html", context)

    def tenant_for(self, request: HttpRequest, thing: Any | None) -> Tenant:
        """Of what there is, or of what is to be made."""
        if thing is not None:
            owner: Tenant = thing.tenant
            return owner
        try:
            return find_tenant(request.GET.get("tenant", ""))
        except NotFound:
            raise Http404 from None

    def form_options(self, request: HttpRequest, thing: Any | None) -> dict[str, Any]:
        return {"tenant": self.tenant_for(request, thing)}

    def crumbs_of_form(self, request: HttpRequest, thing: Any | None, here: str) -> list[Crumb]:
        if thing is not None:
            return self.crumbs(thing, here)
        return [*self.trail_of(self.tenant_for(request, None)), Crumb(here)]
