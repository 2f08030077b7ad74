"""The console's site at `/console/`: every page that there is, and who finds which of them in the navigation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import URLPattern, URLResolver, include, path, re_path, reverse

from gateway.console_views import (
    audit,
    holds,
    keeping,
    keys,
    ledger,
    overview,
    requests,
    routing,
    search,
    sign_in,
    tenants,
)
from keys.models import APIKey
from providers.models import Model, Provider
from tenants import roles
from tenants.console import HouseAdmin
from tenants.errands import require, role_of
from tenants.models import Account, Project, Tenant, User

View = Callable[..., HttpResponseBase]

#: Groups of the navigation, each with the slugs of its pages in order. What a role may not see is not offered to it.
NAVIGATION: Final[Sequence[tuple[str, Sequence[str]]]] = (
    ("Observe", ("index", "requests", "ledger", "holds")),
    ("Access", ("tenants", "projects", "keys", "accounts")),
    ("Routing", ("providers", "models")),
    ("Govern", ("audit", "housekeeping")),
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page that is not one model's CRUD. With a `title` it can stand in the navigation, under its name."""

    name: str
    route: str
    view: View
    title: str = ""
    allowed: frozenset[str] = field(default=roles.READERS)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the navigation."""

    slug: str
    title: str
    url: str
    is_here: bool


class ConsoleSite(AdminSite):
    site_header = site_title = "Gatehouse"
    enable_nav_sidebar = False

    def __init__(self, name: str, pages: Sequence[Page]) -> None:
        super().__init__(name)
        self._pages = pages

    def has_permission(self, request: HttpRequest) -> bool:
        return role_of(request) in roles.READERS

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        """Before anything else: a live session, and no new password that is still due."""
        guarded = super().admin_view(view, cacheable)

        @wraps(view)
        def first(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if isinstance(request.user, User) and request.user.must_change_password:
                return HttpResponseRedirect(reverse("console:password"))
            if request.method == "POST" and not isinstance(request.user, User):
                # Whoever filled in a form is told that it came to nothing.
                query = urlencode({"next": request.get_full_path(), "ended": ""})
                return HttpResponseRedirect(f"{reverse('console:sign-in')}?{query}")
            answer: HttpResponseBase = guarded(request, *args, **kwargs)
            return answer

        return first

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [
            path("sign-in/", sign_in.sign_in, name="sign-in"),
            path("sign-out/", sign_in.sign_out, name="sign-out"),
            # The names that the stock admin asks for.
            path("sign-in/", sign_in.sign_in, name="login"),
            path("sign-out/", sign_in.sign_out, name="logout"),
            path("password/", sign_in.password, name="password"),
            path("theme/", sign_in.theme, name="theme"),
            *(path(page.route, self._guarded(page), name=page.name) for page in self._pages),
            *(path(f"{each.slug}/", include(each.get_urls())) for each in self.house_admins()),
            re_path(r"(?P<url>.*)$", self.admin_view(self.catch_all_view)),
        ]

    def house_admins(self) -> list[HouseAdmin]:
        return [each for each in self._registry.values() if isinstance(each, HouseAdmin)]

    def _guarded(self, page: Page) -> View:
        def view(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
            require(request, page.allowed)
            return page.view(request, **kwargs)

        guarded: View = self.admin_view(view)
        return guarded

    def navigation(self, request: HttpRequest) -> list[tuple[str, list[Entry]]]:
        """The groups with the pages that this role may see."""
        match = request.resolver_match
        here = (match.url_name or "").partition("-")[0] if match else ""
        titles = {
            each.slug: each.title
            for each in self.house_admins()
            if each.has_view_permission(request)
        }
        titles |= {
            page.name: page.title
            for page in self._pages
            if page.title and role_of(request) in page.allowed
        }
        groups = [
            (
                group,
                [
                    Entry(slug, titles[slug], reverse(f"console:{slug}"), slug == here)
                    for slug in slugs
                    if slug in titles
                ],
            )
            for group, slugs in NAVIGATION
        ]
        return [(group, entries) for group, entries in groups if entries]


def root(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect(reverse("console:index"))


def _search(request: HttpRequest) -> HttpResponse:
    return search.page(request, site.house_admins())


#: What is not one model's CRUD.
PAGES: Final[Sequence[Page]] = (
    Page("index", "", overview.overview_page, "Overview"),
    Page("search", "search/", _search),
    Page("requests", "requests/", requests.requests_page, "Requests"),
    Page("requests-detail", "requests/<str:request_id>/", requests.request_page),
    Page(
        "requests-content",
        "requests/<str:request_id>/content/",
        requests.content_page,
        allowed=roles.AUDITORS,
    ),
    Page("ledger", "ledger/", ledger.ledger_page, "Ledger"),
    Page("holds", "holds/", holds.holds_page, "Holds"),
    Page(
        "housekeeping",
        "housekeeping/",
        keeping.housekeeping_page,
        "Housekeeping",
        roles.OWNERS,
    ),
    Page("audit", "audit/", audit.audit_page, "Audit log", roles.AUDITORS),
    Page("audit-verify", "audit/verify/", audit.verify_page, allowed=roles.AUDITORS),
    Page("audit-export", "audit/export/", audit.export, allowed=roles.AUDITORS),
    Page("audit-prune", "audit/prune/", keeping.prune_page, allowed=roles.OWNERS),
    Page("audit-detail", "audit/<uuid:event_id>/", audit.event_page, allowed=roles.AUDITORS),
)

site = ConsoleSite("console", PAGES)
site.register(Tenant, tenants.TenantPages)
site.register(Project, tenants.ProjectPages)
site.register(Account, tenants.AccountPages)
site.register(APIKey, keys.KeyPages)
site.register(Provider, routing.ProviderPages)
site.register(Model, routing.ModelPages)
