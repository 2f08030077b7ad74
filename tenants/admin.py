"""The console's pages of tenants, projects and accounts."""

from typing import Any, ClassVar

from django import forms
from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest

from tenants.account_services import create_account, update_account
from tenants.actor import Actor
from tenants.console import HouseAdmin
from tenants.console_forms import HouseForm, Lines, WholeNumber
from tenants.console_limits import LimitFields
from tenants.console_owned import OwnedForm, TenantOwnedAdmin
from tenants.models import Account, Project, Tenant
from tenants.project_services import create_project, update_project
from tenants.services import create_tenant, update_tenant


class TenantForm(LimitFields):
    pairs = (("name", "slug"),)
    limits_hint = "For all its keys together. Empty is no limit."

    name = forms.CharField(label="Name", max_length=128)
    slug = forms.CharField(
        label="Slug",
        max_length=64,
        required=False,
        help_text="1 to 64 of a-z, 0-9 and inner hyphens. Left empty, it is made from the name.",
        widget=forms.TextInput(attrs={"class": "input-mono", "autocapitalize": "none"}),
    )
    allowed_models = Lines(
        label="Allowed models",
        required=False,
        help_text="One name a line; a * at the end stands for anything. Empty allows all.",
    )
    allowed_addresses = Lines(
        label="Allowed addresses",
        required=False,
        help_text="One address or network a line. Empty lets in all.",
    )
    content_logging = forms.BooleanField(
        label="Prompts and answers may be kept",
        required=False,
        help_text="Sealed, and only of keys that ask for it.",
    )
    content_retention_days = WholeNumber(label="Days they are kept", initial=30, required=False)


class TenantStatus(SimpleListFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("inactive", "Inactive")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Tenant]") -> "QuerySet[Tenant]":
        return queryset.filter(status=self.value()) if self.value() else queryset


class TenantAdmin(HouseAdmin):
    slug = "tenants"
    title = "Tenants"
    singular = "tenant"
    kind = "tenant"
    icon = "i-user"
    house_form = TenantForm
    list_template = "console/tenants/list.html"
    detail_template = "console/tenants/detail.html"
    list_display = ("name", "rate_limit_rpm", "created_at")
    list_filter: ClassVar[Any] = [TenantStatus]
    search_fields = ("name", "slug")
    search_help_text = "Name or slug"
    ordering = ("name",)

    def create(self, actor: Actor, form: HouseForm) -> Tenant:
        values = dict(form.cleaned_data)
        if not values["slug"]:
            del values["slug"]
        return create_tenant(actor=actor, **values)

    def alter(self, actor: Actor, thing: Tenant, values: dict[str, Any]) -> None:
        update_tenant(actor=actor, tenant_id=thing.id, **values)

    def initial(self, request: HttpRequest, thing: Any | None) -> dict[str, Any]:
        given = super().initial(request, thing)
        return (
            given
            if thing is not None
            else {"rate_limit_rpm": 120, "content_retention_days": 30, **given}
        )


class ProjectForm(LimitFields, OwnedForm):
    limits_hint = "For all its keys together. Empty is no limit of its own."

    name = forms.CharField(label="Name", max_length=128)


class ProjectAdmin(TenantOwnedAdmin):
    slug = "projects"
    title = "Projects"
    singular = "project"
    kind = "project"
    icon = "i-info"
    house_form = ProjectForm
    list_template = "console/projects/list.html"
    detail_template = "console/projects/detail.html"
    list_display = ("name", "created_at")
    search_fields = ("name", "tenant__name", "tenant__slug")
    search_help_text = "Project or tenant"
    ordering = ("name",)

    def create(self, actor: Actor, form: Any) -> Project:
        return create_project(actor=actor, tenant_id=form.tenant.id, **form.cleaned_data)

    def alter(self, actor: Actor, thing: Any, values: dict[str, Any]) -> None:
        update_project(actor=actor, project_id=thing.id, **values)


class AccountForm(LimitFields, OwnedForm):
    pairs = (("email", "organization"),)
    limits_hint = "For all its keys together, beside its balance. Empty is no limit of its own."

    username = forms.CharField(label="User name", max_length=128)
    email = forms.CharField(label="E-mail", max_length=254, required=False)
    organization = forms.CharField(label="Organisation", max_length=128, required=False)
    is_active = forms.BooleanField(
        label="Active",
        required=False,
        initial=True,
        help_text="The keys of an account that is not active answer 401.",
    )


class AccountAdmin(TenantOwnedAdmin):
    slug = "accounts"
    title = "Accounts"
    singular = "account"
    kind = "account"
    icon = "i-user"
    house_form = AccountForm
    list_template = "console/accounts/list.html"
    detail_template = "console/accounts/detail.html"
    list_display = ("username", "created_at")
    search_fields = ("username", "email", "organization", "tenant__name", "tenant__slug")
    search_help_text = "Name, e-mail, organisation or tenant"
    ordering = ("username",)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        """What was deleted is hidden, not lost."""
        return super().get_queryset(request).filter(deleted_at__isnull=True)

    def label_of(self, thing: Account) -> str:
        return thing.username

    def initial(self, request: HttpRequest, thing: Any | None) -> dict[str, Any]:
        given = super().initial(request, thing)
        return given if thing is not None else {"is_active": True, **given}

    def create(self, actor: Actor, form: Any) -> Account:
        return create_account(actor=actor, tenant_id=form.tenant.id, **form.cleaned_data)

    def alter(self, actor: Actor, thing: Any, values: dict[str, Any]) -> None:
        update_account(actor=actor, account_id=thing.id, **values)
