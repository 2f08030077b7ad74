"""What the pages of the console are built from. An app's `admin.py` says what its things look like; how they are listed, shown,
drawn as a form, changed and confirmed stands here. `docs/architecture.md` ("The console") shows how to build a page.

    HouseAdmin            list, detail, new, edit of one model; every write through a service
    └── TenantScopedAdmin the same for what belongs to a tenant
    ConfirmedAction       something drastic: GET shows what will happen, POST does it once, for the version that was shown

A form carries a ticket (tenants/tickets.py). What it stands for happens in one transaction with the spending of the ticket
(tenants/errands.py).
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import BadRequest
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse

from tenants import roles, tickets
from tenants.actor import Actor
from tenants.console_forms import HouseForm
from tenants.console_lists import BoundedList
from tenants.console_parts import Crumb, Fact, Line, Offer, TenantFilter
from tenants.errands import (
    TICKET_FIELD,
    already_done,
    carry_out,
    require,
    role_of,
    session_in,
    show_refusal,
)
from tenants.errors import ServiceError
from tenants.models import Tenant
from tenants.tickets import CONFIRM_LIFE, FORM_LIFE, BadTicket, Errand, Outdated, Spent

# --- one model's pages ------------------------------------------------------------------------------------------------


class HouseAdmin(BoundedList):
    """The pages of one model. The stock admin finds, filters, sorts and pages; the rest of it is not used: writes go through
    services, and what happened is in the audit log.

    Subclasses say: `slug` (of URLs and of their names: `console:keys`, `-new`, `-detail`, `-edit`), `title` (plural),
    `singular`, `kind` (the audit log's word), the templates, `house_form`, and `create`/`alter`. Without a form there are no
    writing pages at all.
    """

    slug: ClassVar[str]
    title: ClassVar[str]
    singular: ClassVar[str]
    kind: ClassVar[str]
    icon: ClassVar[str] = "i-info"
    list_template: ClassVar[str] = "console/list.html"
    detail_template: ClassVar[str] = "console/detail.html"
    edit_template: ClassVar[str] = "console/edit.html"
    house_form: ClassVar[type[HouseForm] | None] = None
    readers: ClassVar[frozenset[str]] = roles.READERS
    writers: ClassVar[frozenset[str]] = roles.CHANGERS
    confirmed_actions: ClassVar[Sequence[type["ConfirmedAction"]]] = ()
    #: Columns that change without anybody having decided something: they make no page stale.
    volatile: ClassVar[frozenset[str]] = frozenset()

    actions = None

    # What a subclass fills in

    def create(self, actor: Actor, form: Any) -> Any:
        """Make one of a valid form, by a service; what it returns goes to `made`."""
        raise NotImplementedError

    def alter(self, actor: Actor, thing: Any, values: dict[str, Any]) -> None:
        """Change fields, by a service; only those that differ are given."""
        raise NotImplementedError

    def initial(self, request: HttpRequest, thing: Any | None) -> dict[str, Any]:
        """What the form begins with; a new thing's may be given in the URL."""
        form = self.house_form
        if thing is None:
            names = form.base_fields if form else {}
            return {name: request.GET[name] for name in names if name in request.GET}
        return {name: getattr(thing, name, None) for name in (form.base_fields if form else {})}

    def form_options(self, request: HttpRequest, thing: Any | None) -> dict[str, Any]:
        """Further arguments of the form."""
        return {}

    def label_of(self, thing: Any) -> str:
        return str(getattr(thing, "name", thing))

    def thing_in(self, result: Any) -> Any:
        """The row in what `create` returned."""
        return result

    def list_context(self, request: HttpRequest, rows: Sequence[Any]) -> dict[str, Any]:
        """More for the list's template, looked up for all rows at once."""
        return {}

    def detail_context(self, request: HttpRequest, thing: Any) -> dict[str, Any]:
        return {}

    def version_parts(self, thing: Any) -> Iterable[str]:
        """What belongs to a thing's version beside its own columns."""
        return ()

    def made(self, request: HttpRequest, result: Any) -> HttpResponse:
        """The answer to a form that made something."""
        thing = self.thing_in(result)
        messages.success(request, f"{self.label_of(thing)} is there.")
        return HttpResponseRedirect(self.place_of(thing))

    # Who may

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any | None = None) -> bool:
        return role_of(request) in self.readers

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.house_form is not None and role_of(request) in self.writers

    def has_change_permission(self, request: HttpRequest, obj: Any | None = None) -> bool:
        return self.has_add_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any | None = None) -> bool:
        """Ending something is a `ConfirmedAction`."""
        return False

    # Where

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        urls = [path("", view(self.changelist_view), name=self.slug)]
        if self.house_form is not None:
            urls += [
                path("new/", view(self.add_view), name=f"{self.slug}-new"),
                path("<str:object_id>/edit/", view(self.change_view), name=f"{self.slug}-edit"),
            ]
        urls += [
            path(
                f"<str:object_id>/{action.name}/",
                view(self._confirming(action)),
                name=f"{self.slug}-{action.name}",
            )
            for action in self.confirmed_actions
        ]
        return [
            *urls,
            path("<str:object_id>/", view(self.detail_view), name=f"{self.slug}-detail"),
        ]

    def url(self, page: str = "", thing: Any | None = None) -> str:
        """`url()` is the list, `url("new")`, `url("edit", thing)`, `url("detail", thing)`, `url("rotate", thing)`."""
        name = f"console:{self.slug}-{page}" if page else f"console:{self.slug}"
        return reverse(name, args=[thing.pk] if thing is not None else [])

    def url_new(self) -> str:
        return self.url("new")

    def place_of(self, thing: Any) -> str:
        """Where a thing is to be seen."""
        return self.url("detail", thing)

    def crumbs(self, thing: Any | None = None, here: str = "") -> list[Crumb]:
        """From the list to `here`."""
        trail = [Crumb(self.title, self.url())]
        if thing is not None:
            trail.append(Crumb(self.label_of(thing), self.url("detail", thing)))
        if here:
            return [*trail, Crumb(here)]
        return [*trail[:-1], Crumb(trail[-1].label)]

    def crumbs_of_form(self, request: HttpRequest, thing: Any | None, here: str) -> list[Crumb]:
        return self.crumbs(thing, here)

    # The pages

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        require(request, self.readers)
        try:
            found = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            raise BadRequest("There is no such page of this list.") from None
        rows = list(found.result_list)
        context = {
            "title": self.title,
            "admin": self,
            "cl": found,
            "rows": rows,
            "is_filtered": bool(found.params or found.query),
            "may_add": self.has_add_permission(request),
            **self.list_context(request, rows),
        }
        return render(request, self.list_template, context)

    def detail_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        require(request, self.readers)
        thing = self.existing(request, object_id)
        context = {
            "title": self.label_of(thing),
            "admin": self,
            "thing": thing,
            "crumbs": self.crumbs(thing),
            "edit_url": self.url("edit", thing) if self.may_edit(request, thing) else "",
            "offers": self.offers(request, thing),
            **self.detail_context(request, thing),
        }
        return render(request, self.detail_template, context)

    def may_edit(self, request: HttpRequest, thing: Any) -> bool:
        return self.has_change_permission(request, thing)

    def offers(self, request: HttpRequest, thing: Any) -> list[Offer]:
        """What this role could do to this thing now."""
        offered = [action(self, request, thing) for action in self.confirmed_actions]
        return [
            Offer(each.name, each.label, self.url(each.name, thing), each.icon, each.danger)
            for each in offered
            if role_of(request) in each.allowed and not each.impossible()
        ]

    def existing(self, request: HttpRequest, object_id: str) -> Any:
        """The row, or 404 also for what this role may not see."""
        thing = self.get_object(request, object_id) if "\0" not in object_id else None
        if thing is None:
            raise Http404
        return thing

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        require(request, self.writers)
        return self._form_page(request, None)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        require(request, self.writers)
        return self._form_page(request, self.existing(request, object_id))

    def _form_page(self, request: HttpRequest, thing: Any | None) -> HttpResponse:
        form = self.drawn_form(request, thing)
        if request.method != "POST":
            return self._draw_form(request, thing, form)
        if not form.is_valid():
            return self._draw_form(request, thing, form, status=400)
        if thing is not None and not form.changed():
            messages.info(request, "Nothing was changed.")
            return HttpResponseRedirect(self.place_of(thing))
        try:
            result = self._submit(request, thing, form)
        except Spent as spent:
            return already_done(request, spent)
        except (Outdated, BadTicket) as fault:
            status = 409 if isinstance(fault, Outdated) else 403
            form.show_what_stands()
            return self._draw_form(request, thing, form, status=status, stale=fault.message)
        except ServiceError as refusal:
            return self._draw_form(request, thing, form, status=show_refusal(form, refusal))
        if thing is None:
            return self.made(request, result)
        messages.success(request, "Saved.")
        return HttpResponseRedirect(self.place_of(thing))

    def drawn_form(self, request: HttpRequest, thing: Any | None) -> HouseForm:
        if self.house_form is None:
            raise Http404
        data = request.POST if request.method == "POST" else None
        initial = self.initial(request, thing)
        return self.house_form(data, initial=initial, **self.form_options(request, thing))

    def _submit(self, request: HttpRequest, thing: Any | None, form: HouseForm) -> Any:
        if thing is None:
            return carry_out(
                request,
                lambda: self._errand(request, None),
                FORM_LIFE,
                lambda actor: self.create(actor, form),
                lambda result: self.place_of(self.thing_in(result)),
            )
        return carry_out(
            request,
            lambda: self._errand(request, self.existing(request, str(thing.pk))),
            FORM_LIFE,
            lambda actor: self.alter(actor, thing, form.changed()),
            lambda _: self.place_of(thing),
        )

    def _errand(self, request: HttpRequest, thing: Any | None) -> Errand:
        action = f"{self.kind}.{'updated' if thing is not None else 'created'}"
        return self.errand(request, action, thing)

    def errand(self, request: HttpRequest, action: str, thing: Any | None) -> Errand:
        """What a form stands for: drawn now, for this session, about this version of the thing."""
        session = str(session_in(request).pk)
        if thing is None:
            return Errand(session, action)
        return Errand(session, action, str(thing.pk), self.version_of(thing))

    def version_of(self, thing: Any) -> str:
        """Differs whenever anything that somebody decided differs."""
        fields = [each for each in thing._meta.concrete_fields if each.name not in self.volatile]
        parts = [f"{each.name}={each.value_to_string(thing)}" for each in fields]
        whole = "\0".join([*parts, *self.version_parts(thing)])
        return hashlib.sha256(whole.encode()).hexdigest()[:32]

    def _draw_form(
        self,
        request: HttpRequest,
        thing: Any | None,
        form: HouseForm,
        *,
        status: int = 200,
        stale: str = "",
    ) -> HttpResponse:
        here = "Edit" if thing is not None else f"New {self.singular}"
        # What was typed belongs to the version that it was typed for, also when something about it has to be mended.
        is_drawn_anew = stale or request.method != "POST"
        ticket = tickets.issue(self._errand(request, thing)) if is_drawn_anew else ""
        context = {
            "title": f"Edit {self.label_of(thing)}" if thing is not None else here,
            "admin": self,
            "thing": thing,
            "form": form,
            "stale": stale,
            "ticket": ticket or request.POST.get(TICKET_FIELD, ""),
            "crumbs": self.crumbs_of_form(request, thing, here),
            "back": self.place_of(thing) if thing is not None else self.url(),
        }
        return render(request, self.edit_template, context, status=status)

    def _confirming(self, action: type["ConfirmedAction"]) -> Callable[..., HttpResponse]:
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            require(request, action.allowed)
            return action(self, request, self.existing(request, object_id)).respond()

        return view


class TenantScopedAdmin(HouseAdmin):
    """Pages of what belongs to a tenant: found by tenant, and the trail begins with it."""

    list_filter: ClassVar[Any] = [TenantFilter]
    list_select_related: ClassVar[Any] = ["tenant"]

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        return super().get_queryset(request).select_related("tenant")

    def tenant_of(self, thing: Any) -> Tenant | None:
        """None for what is shared."""
        tenant: Tenant | None = thing.tenant
        return tenant

    def crumbs(self, thing: Any | None = None, here: str = "") -> list[Crumb]:
        trail = super().crumbs(thing, here)
        tenant = self.tenant_of(thing) if thing is not None else None
        return [*self.trail_of(tenant), *trail[1:]] if tenant is not None else trail

    def trail_of(self, tenant: Tenant) -> list[Crumb]:
        """The tenant, and what of this kind is its."""
        start = Crumb(tenant.name, reverse("console:tenants-detail", args=[tenant.pk]))
        return [start, Crumb(self.title, f"{self.url()}?tenant={tenant.slug}")]


# --- what is asked about first ----------------------------------------------------------------------------------------


class ConfirmedAction:
    """Something drastic that is done to one thing, on a page of its own. GET shows what will happen, and changes nothing.

    POST asks again for role and form token, and acts in one transaction, once, if the thing is still what the page was drawn
    for; else the page is drawn anew with 409. One instance lives for one request.
    """

    #: In the URL, and after the slug in its name: `console:keys-rotate`.
    name: ClassVar[str]
    #: On buttons that lead here; with an ellipsis, for it asks first.
    label: ClassVar[str]
    #: The audit log's word for it.
    action: ClassVar[str]
    icon: ClassVar[str] = ""
    danger: ClassVar[bool] = False
    template: ClassVar[str] = "console/confirm.html"
    allowed: ClassVar[frozenset[str]] = roles.CHANGERS
    form_class: ClassVar[type[HouseForm]] = HouseForm

    def __init__(self, admin: HouseAdmin, request: HttpRequest, thing: Any) -> None:
        self.admin, self.request, self.thing = admin, request, thing

    # What a subclass fills in

    def heading(self) -> str:
        raise NotImplementedError

    def sentence(self) -> str:
        return "Nothing has changed yet."

    def button(self) -> str:
        raise NotImplementedError

    def changes(self) -> Sequence[Line]:
        return ()

    def stays(self) -> Sequence[Line]:
        return ()

    def facts(self) -> Sequence[Fact]:
        return ()

    def impossible(self) -> str:
        """Why it cannot be done just now, in a sentence; empty if it can. That is information, not an error."""
        return ""

    def form_options(self) -> dict[str, Any]:
        return {}

    def act(self, actor: Actor, values: dict[str, Any]) -> Any:
        """Do it, by a service."""
        raise NotImplementedError

    def done(self, result: Any) -> HttpResponse:
        """The answer once it is done."""
        messages.success(self.request, self.done_sentence())
        return HttpResponseRedirect(self.place(result))

    def done_sentence(self) -> str:
        return "Done."

    def place(self, result: Any) -> str:
        """Where it is to be seen."""
        return self.admin.place_of(self.thing)

    # The page

    def respond(self) -> HttpResponse:
        posted = self.request.method == "POST"
        form = self.form_class(self.request.POST if posted else None, **self.form_options())
        if not posted:
            return self._draw(form)
        if not form.is_valid():
            return self._draw(form, status=400)
        try:
            result = carry_out(
                self.request,
                self._errand,
                CONFIRM_LIFE,
                lambda actor: self.act(actor, form.cleaned_data),
                self.place,
            )
        except Spent as spent:
            return already_done(self.request, spent)
        except (Outdated, BadTicket) as fault:
            self.thing = self.admin.existing(self.request, str(self.thing.pk))
            status = 409 if isinstance(fault, Outdated) else 403
            return self._draw(form, status=status, stale=fault.message)
        except ServiceError as refusal:
            return self._draw(form, status=show_refusal(form, refusal))
        return self.done(result)

    def _errand(self) -> Errand:
        now = self.admin.existing(self.request, str(self.thing.pk))
        return self.admin.errand(self.request, self.action, now)

    def _draw(self, form: HouseForm, *, status: int = 200, stale: str = "") -> HttpResponse:
        """The ticket is for what is shown, so it is issued from the very row that is drawn."""
        context = {
            "title": self.heading(),
            "action": self,
            "admin": self.admin,
            "thing": self.thing,
            "form": form,
            "stale": stale,
            "impossible": self.impossible(),
            "ticket": tickets.issue(self.admin.errand(self.request, self.action, self.thing)),
            "crumbs": self.admin.crumbs(self.thing, self.label.rstrip("…")),
            "back": self.admin.place_of(self.thing),
        }
        return render(self.request, self.template, context, status=status)
