"""Tenants, projects and accounts with what the floors above know of them; and what is asked about before it is done to them."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from gateway.console_views.figures import calls_in_a_day
from gateway.console_views.limits import limits_panel
from keys.admin import counting_live_keys
from keys.models import APIKey
from tenants.account_services import delete_account
from tenants.actor import Actor
from tenants.admin import AccountAdmin, ProjectAdmin, TenantAdmin
from tenants.clock import SYSTEM
from tenants.console import ConfirmedAction
from tenants.console_forms import HouseForm, TypedForm
from tenants.console_parts import Fact, Line
from tenants.models import Account, Project, Tenant
from tenants.project_services import delete_project
from tenants.services import delete_tenant, update_tenant
from usage import balance_services
from usage.balance_services import Standing
from usage.models import Credit
from usage.money import usd_text

#: Entries of a balance that its account's page shows, the newest first.
_SHOWN_CREDITS: Final = 50


def live_keys(**of: Any) -> int:
    return APIKey.objects.filter(revoked_at__isnull=True, **of).count()


class ReasonForm(HouseForm):
    reason = forms.CharField(
        label="Reason",
        max_length=256,
        required=False,
        help_text="For the audit log.",
    )


class _OfTenant(ConfirmedAction):
    thing: Tenant

    def facts(self) -> Sequence[Fact]:
        return (
            Fact("Live keys", f"{live_keys(tenant=self.thing):,}"),
            Fact("Calls, 24 h", calls_in_a_day(tenant_id=self.thing.id)),
            Fact("Made", self.thing.created_at, is_moment=True),
        )


class Deactivate(_OfTenant):
    name, label, action = "deactivate", "Deactivate…", "tenant.suspended"
    danger = True
    form_class = ReasonForm

    def heading(self) -> str:
        return f"Deactivate {self.thing.name}?"

    def button(self) -> str:
        return "Deactivate"

    def impossible(self) -> str:
        return "It is not active." if self.thing.status == Tenant.Status.INACTIVE else ""

    def changes(self) -> Sequence[Line]:
        return (
            Line("Every key of it answers 401, from the next request on.", "i-off"),
            Line("Calls that are running end.", "i-clock"),
            Line("One audit row,", "i-info", "tenant.suspended", ", under your name."),
        )

    def stays(self) -> Sequence[Line]:
        return (
            Line("Keys, projects, accounts, limits"),
            Line("Logs and spend"),
            Line("It can be activated again."),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> Tenant:
        return update_tenant(
            actor=actor, tenant_id=self.thing.id, status="inactive", reason=values["reason"]
        )

    def done_sentence(self) -> str:
        return f"{self.thing.name} is deactivated."


class Activate(_OfTenant):
    name, label, action = "activate", "Activate…", "tenant.activated"
    form_class = ReasonForm

    def heading(self) -> str:
        return f"Activate {self.thing.name}?"

    def button(self) -> str:
        return "Activate"

    def impossible(self) -> str:
        return "It is active." if self.thing.status == Tenant.Status.ACTIVE else ""

    def changes(self) -> Sequence[Line]:
        return (Line("Its keys work again, from the next request on.", "i-ok"),)

    def stays(self) -> Sequence[Line]:
        return (
            Line("What is revoked, paused or expired stays so."),
            Line("Limits, logs and spend"),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> Tenant:
        return update_tenant(
            actor=actor, tenant_id=self.thing.id, status="active", reason=values["reason"]
        )

    def done_sentence(self) -> str:
        return f"{self.thing.name} is active."


class EndTenant(_OfTenant):
    name, label, action = "delete", "End for good…", "tenant.deleted"
    danger = True
    form_class = TypedForm

    def heading(self) -> str:
        return f"End {self.thing.name} for good?"

    def sentence(self) -> str:
        return "Nothing has changed yet. Afterwards nothing brings it back; deactivating it can be undone."

    def button(self) -> str:
        return "End for good"

    def form_options(self) -> dict[str, Any]:
        return {"expected": self.thing.slug, "what": "slug"}

    def changes(self) -> Sequence[Line]:
        return (
            Line("Its keys, projects, accounts and its own provider go.", "i-bad"),
            Line("Its secret goes: whatever was sealed for it can never be read again.", "i-lock"),
        )

    def stays(self) -> Sequence[Line]:
        return (Line("Logs, ledger and audit, under its name"),)

    def act(self, actor: Actor, values: dict[str, Any]) -> None:
        delete_tenant(actor=actor, tenant_id=self.thing.id)

    def place(self, result: Any) -> str:
        return self.admin.url()

    def done_sentence(self) -> str:
        return f"{self.thing.name} is ended."


class RemoveProject(ConfirmedAction):
    name, label, action = "delete", "Delete…", "project.deleted"
    danger = True

    def heading(self) -> str:
        return f"Delete the project {self.thing.name}?"

    def button(self) -> str:
        return "Delete project"

    def changes(self) -> Sequence[Line]:
        return (Line("Its keys belong to no project.", "i-info"),)

    def stays(self) -> Sequence[Line]:
        return (
            Line("The keys themselves, their limits"),
            Line("Logs and spend, under the project’s name"),
        )

    def facts(self) -> Sequence[Fact]:
        return (
            Fact("Live keys", f"{live_keys(project=self.thing):,}"),
            Fact("Calls, 24 h", calls_in_a_day(project_id=self.thing.id)),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> None:
        delete_project(actor=actor, project_id=self.thing.id)

    def place(self, result: Any) -> str:
        return self.admin.url()

    def done_sentence(self) -> str:
        return f"The project {self.thing.name} is deleted."


class RemoveAccount(ConfirmedAction):
    name, label, action = "delete", "Delete…", "account.deleted"
    danger = True

    def heading(self) -> str:
        return f"Delete the account {self.thing.username}?"

    def button(self) -> str:
        return "Delete account"

    def changes(self) -> Sequence[Line]:
        return (
            Line("Its keys answer 401, from the next request on.", "i-off"),
            Line("It is hidden from every list.", "i-info"),
        )

    def stays(self) -> Sequence[Line]:
        return (Line("Logs and spend, under its name"), Line("Its user name stays taken."))

    def facts(self) -> Sequence[Fact]:
        return (
            Fact("Live keys", f"{live_keys(account=self.thing):,}"),
            Fact("Calls, 24 h", calls_in_a_day(account_id=self.thing.id)),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> None:
        delete_account(actor=actor, account_id=self.thing.id)

    def place(self, result: Any) -> str:
        return self.admin.url()

    def done_sentence(self) -> str:
        return f"The account {self.thing.username} is deleted."


class TopUpForm(HouseForm):
    amount_usd = forms.CharField(
        label="Amount, USD",
        max_length=24,
        help_text="Such as 25 or 0.50.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off", "size": "14"}),
    )
    note = forms.CharField(
        label="Note", max_length=256, required=False, help_text="Such as an invoice’s number."
    )


class TopUp(ConfirmedAction):
    name, label, action = "top-up", "Top up…", "account.topped_up"
    icon = "i-plus"
    form_class = TopUpForm

    def heading(self) -> str:
        return f"Top up {self.thing.username}"

    def button(self) -> str:
        return "Top up"

    def changes(self) -> Sequence[Line]:
        return (
            Line("The balance grows by the amount; its keys can spend it at once.", "i-plus"),
            Line("One entry, which nobody can change.", "i-lock"),
            Line("One audit row,", "i-info", "account.topped_up", ", under your name."),
        )

    def stays(self) -> Sequence[Line]:
        return (Line("Every entry before it"), Line("Limits and budgets"))

    def facts(self) -> Sequence[Fact]:
        standing = balance_services.balance_of([self.thing.id])[self.thing.id]
        return (
            Fact("Balance", f"${usd_text(standing.balance)}"),
            Fact("Set aside", f"${usd_text(standing.held)}"),
            Fact("Live keys", f"{live_keys(account=self.thing):,}"),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> Standing:
        return balance_services.top_up(actor=actor, account_id=self.thing.id, **values)

    def done(self, result: Any) -> HttpResponse:
        standing: Standing = result
        messages.success(self.request, f"The balance is ${usd_text(standing.balance)} now.")
        return HttpResponseRedirect(self.place(result))


class TenantPages(TenantAdmin):
    confirmed_actions = (Activate, Deactivate, EndTenant)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        return counting_live_keys(super().get_queryset(request))

    def detail_context(self, request: HttpRequest, thing: Tenant) -> dict[str, Any]:
        return {
            "live_keys": live_keys(tenant=thing),
            "projects": thing.projects.count(),
            "accounts": thing.accounts.filter(deleted_at__isnull=True).count(),
            "calls": calls_in_a_day(tenant_id=thing.id),
            "may_add_keys": self.has_add_permission(request),
            "panel": limits_panel("tenant", thing, SYSTEM.now()),
        }


class ProjectPages(ProjectAdmin):
    confirmed_actions = (RemoveProject,)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        return counting_live_keys(super().get_queryset(request))

    def detail_context(self, request: HttpRequest, thing: Project) -> dict[str, Any]:
        panel = limits_panel("project", thing, SYSTEM.now())
        return {**_use_of(thing.id, "project"), "panel": panel}


class AccountPages(AccountAdmin):
    confirmed_actions = (TopUp, RemoveAccount)

    def list_context(self, request: HttpRequest, rows: Sequence[Any]) -> dict[str, Any]:
        standings = balance_services.balance_of([row.pk for row in rows])
        return {"rows": [{"it": row, "standing": standings[row.pk]} for row in rows]}

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        return counting_live_keys(super().get_queryset(request))

    def detail_context(self, request: HttpRequest, thing: Account) -> dict[str, Any]:
        credits = Credit.objects.filter(account_id=thing.id).order_by("-created_at", "-id")
        return {
            **_use_of(thing.id, "account"),
            "panel": limits_panel("account", thing, SYSTEM.now()),
            "standing": balance_services.balance_of([thing.id])[thing.id],
            "credits": credits[:_SHOWN_CREDITS],
            "most": _SHOWN_CREDITS,
        }


def _use_of(owner_id: UUID, owner: str) -> dict[str, Any]:
    return {
        "live_keys": live_keys(**{f"{owner}_id": owner_id}),
        "calls": calls_in_a_day(**{f"{owner}_id": owner_id}),
    }
