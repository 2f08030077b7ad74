"""The console's pages of keys: found, shown, made and edited. What needs the roof (how many calls, rotating) is added there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from django import forms
from django.contrib.admin import SimpleListFilter
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from keys.models import APIKey
from keys.services import (
    CAPABILITIES,
    SCOPES,
    Issued,
    current_prefix,
    issue_key,
    previous_secret_expires_at,
    status_of,
    update_key,
)
from tenants import examples
from tenants.actor import Actor
from tenants.clock import SYSTEM
from tenants.console import HouseAdmin
from tenants.console_forms import Lines, Moment, OneOf, SomeOf
from tenants.console_limits import LimitFields
from tenants.console_owned import OwnedForm, TenantOwnedAdmin
from tenants.console_parts import TenantFilter
from tenants.models import Tenant

_LIFES: Final = (30, 90, 365)
_DEFAULT_LIFE: Final = 90
_NEVER: Final = "never"
#: Projects and accounts that a form offers.
_OFFERED: Final = 200
_SOON: Final = timedelta(days=30)
_IDLE: Final = timedelta(days=90)


def counting_live_keys(owners: "QuerySet[Any]") -> "QuerySet[Any]":
    """Tenants, projects or accounts, each with `live_keys`: how many of its keys are not revoked."""
    live = Count("api_keys", filter=Q(api_keys__revoked_at__isnull=True), distinct=True)
    counted: QuerySet[Any] = owners.annotate(live_keys=live)
    return counted


@dataclass(frozen=True, slots=True)
class ShownKey:
    """A key as lists and pages show it. Reads `key.secrets`: fetch them with the rows."""

    key: APIKey
    status: str
    prefix: str
    old_secret_ends: datetime | None

    @classmethod
    def of(cls, key: APIKey) -> "ShownKey":
        now = SYSTEM.now()
        ends = previous_secret_expires_at(key, now) if key.revoked_at is None else None
        return cls(key, status_of(key, now), current_prefix(key), ends)


class KeyForm(LimitFields, OwnedForm):
    """What can be changed of a key at any time."""

    pairs: ClassVar[Sequence[tuple[str, str]]] = (("project", "account"),)
    limits_hint = (
        "Those of its project, account and tenant count too, and the tightest one is felt first."
        " Empty is no limit of its own."
    )

    name = forms.CharField(
        label="Name", max_length=128, help_text="What it is for, such as “ci-runner”."
    )
    project = OneOf(label="Project", empty="None")
    account = OneOf(label="Account", empty="None", help_text="Who pays.")
    allowed_models = Lines(
        label="Models",
        required=False,
        help_text="One name a line; a * at the end stands for anything. Empty allows all.",
    )
    scopes = forms.MultipleChoiceField(
        label="Scopes",
        choices=[(scope, scope) for scope in SCOPES],
        initial=["inference", "usage"],
        widget=forms.CheckboxSelectMultiple,
    )
    allowed_capabilities = SomeOf(
        label="Capabilities",
        choices=[(name, name) for name in CAPABILITIES],
        required=False,
        help_text="None ticked allows all.",
        widget=forms.CheckboxSelectMultiple,
    )
    allowed_addresses = Lines(
        label="Allowed addresses",
        required=False,
        help_text="One address or network a line. Empty lets in all.",
    )
    log_content = forms.BooleanField(
        label="Keep prompts and answers",
        required=False,
        help_text="Sealed, and only while its tenant allows it.",
    )

    def __init__(
        self, *args: Any, tenant: Tenant, belongs_to: dict[str, str] | None = None, **kwargs: Any
    ) -> None:
        """`belongs_to` is what the key belongs to now, labels by id: it is offered even where it is deleted or one of many, for
        a form that is saved without it would take the key away from there.
        """
        super().__init__(*args, tenant=tenant, **kwargs)
        accounts = tenant.accounts.filter(deleted_at__isnull=True).order_by("username")
        self._kept = belongs_to or {}
        self._offer("project", tenant.projects.order_by("name").values_list("id", "name"))
        self._offer("account", accounts.values_list("id", "username"))

    def _offer(self, name: str, rows: Any) -> None:
        offered = {str(pk): label for pk, label in rows[:_OFFERED]}
        now = str(self.initial.get(name, ""))
        if now in self._kept:
            offered.setdefault(now, self._kept[now])
        choices = list(offered.items())
        field = self.fields[name]
        assert isinstance(field, OneOf)  # noqa: S101 - as declared above
        field.choices = [("", "None"), *choices]


class EditKeyForm(KeyForm):
    expires_at = Moment(label="Expires", required=False, help_text="UTC. Empty is never.")


class NewKeyForm(KeyForm):
    pairs = (*KeyForm.pairs, ("team", "expires"))

    team = forms.CharField(
        label="Team",
        max_length=64,
        required=False,
        help_text="1 to 64 of A-Z, a-z, 0-9, dot, underscore and hyphen. Cannot be changed later.",
    )
    expires = forms.ChoiceField(label="Expires")
    endless = forms.BooleanField(
        label="I know that a key without an end works until somebody revokes it",
        required=False,
        help_text="Only asked for “Never”.",
    )

    field_order = ("name", "team", "expires", "endless")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        today = SYSTEM.now()
        field = self.fields["expires"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - as declared above
        field.choices = [
            *(
                (str(days), f"In {days} days, {today + timedelta(days=days):%-d %b %Y}")
                for days in _LIFES
            ),
            (_NEVER, "Never"),
        ]

    def clean(self) -> dict[str, Any]:
        """`expires_at` in place of what was chosen."""
        values: dict[str, Any] = super().clean() or {}
        chosen, endless = values.pop("expires", None), values.pop("endless", False)
        if chosen == _NEVER and not endless:
            self.add_error(
                "endless", ValidationError("must be ticked for a key that never expires.")
            )
        elif chosen is not None:
            days = None if chosen == _NEVER else timedelta(days=int(chosen))
            values["expires_at"] = None if days is None else SYSTEM.now() + days
        return values


class KeyStatus(SimpleListFilter):
    title = "state"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("active", "Active"),
            ("paused", "Paused"),
            ("expired", "Expired"),
            ("revoked", "Revoked"),
            ("expiring", "Expiring in 30 d"),
            ("idle", "Idle over 90 d"),
            ("old", "Old secret alive"),
        ]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[APIKey]") -> "QuerySet[APIKey]":
        now = SYSTEM.now()
        alive = Q(revoked_at__isnull=True)
        unexpired = alive & (Q(expires_at__isnull=True) | Q(expires_at__gt=now))
        unused = Q(last_used_at__lt=now - _IDLE) | Q(
            last_used_at__isnull=True, created_at__lt=now - _IDLE
        )
        conditions = {
            "active": unexpired & Q(is_active=True),
            "paused": unexpired & Q(is_active=False),
            "expired": alive & Q(expires_at__lte=now),
            "revoked": ~alive,
            "expiring": unexpired & Q(expires_at__lte=now + _SOON),
            "idle": unexpired & unused,
            "old": alive & Q(secrets__not_after__gt=now),
        }
        value = self.value()
        return queryset.filter(conditions[value]).distinct() if value in conditions else queryset


class KeyAdmin(TenantOwnedAdmin):
    slug = "keys"
    title = "Keys"
    singular = "key"
    kind = "api_key"
    icon = "i-key"
    house_form = EditKeyForm
    list_template = "console/keys/list.html"
    detail_template = "console/keys/detail.html"
    list_display = ("name", "last_used_at", "rate_limit_rpm", "expires_at", "created_at")
    list_filter: ClassVar[Any] = [TenantFilter, KeyStatus]
    search_fields = ("name", "team", "project__name", "^secrets__prefix")
    search_help_text = "Name, team, project or prefix"
    ordering = ("-created_at",)
    volatile = frozenset({"last_used_at"})

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        rows = super().get_queryset(request).select_related("project", "account")
        return rows.prefetch_related("secrets")

    def drawn_form(self, request: HttpRequest, thing: Any | None) -> OwnedForm:
        if thing is not None:
            return super().drawn_form(request, thing)  # type: ignore[return-value]
        data = request.POST if request.method == "POST" else None
        options = self.form_options(request, None)
        return NewKeyForm(data, initial=self.initial(request, None), **options)

    def form_options(self, request: HttpRequest, thing: Any | None) -> dict[str, Any]:
        options = super().form_options(request, thing)
        if thing is None:
            return options
        belongs_to = {str(thing.project_id): thing.project.name} if thing.project else {}
        if account := thing.account:
            gone = " (deleted)" if account.deleted_at else ""
            belongs_to[str(account.pk)] = f"{account.username}{gone}"
        return {**options, "belongs_to": belongs_to}

    def initial(self, request: HttpRequest, thing: Any | None) -> dict[str, Any]:
        given = super().initial(request, thing)
        if thing is None:
            return {"expires": str(_DEFAULT_LIFE), "scopes": ["inference", "usage"], **given}
        belongings = {"project": thing.project_id, "account": thing.account_id}
        return given | {name: str(pk) if pk else "" for name, pk in belongings.items()}

    def create(self, actor: Actor, form: Any) -> Issued:
        return issue_key(actor=actor, tenant_id=form.tenant.id, **form.cleaned_data)

    def alter(self, actor: Actor, thing: APIKey, values: dict[str, Any]) -> None:
        update_key(actor=actor, key_id=thing.id, **values)

    def thing_in(self, result: Any) -> APIKey:
        issued: Issued = result
        return issued.key

    def made(self, request: HttpRequest, result: Any) -> HttpResponse:
        issued: Issued = result
        heading = f"The secret of {issued.key.name}"
        return show_once(request, self, issued, heading, "It works already.")

    def may_edit(self, request: HttpRequest, thing: Any) -> bool:
        is_ours = thing.revoked_at is None and thing.source != APIKey.Source.CONFIG
        return is_ours and super().may_edit(request, thing)

    def version_parts(self, thing: Any) -> Iterable[str]:
        return sorted(f"{secret.id} {secret.not_after}" for secret in thing.secrets.all())

    def list_context(self, request: HttpRequest, rows: Sequence[Any]) -> dict[str, Any]:
        return {"rows": [ShownKey.of(key) for key in rows]}

    def detail_context(self, request: HttpRequest, thing: Any) -> dict[str, Any]:
        return {"shown": ShownKey.of(thing)}


def show_once(
    request: HttpRequest, admin: HouseAdmin, issued: Issued, heading: str, sentence: str
) -> HttpResponse:
    """The one sight of a credential: in the answer to the form that made it, and nowhere else ever."""
    key = issued.key
    credential = issued.credential.reveal().decode()
    context = {
        "title": heading,
        "sentence": sentence,
        "key": key,
        "credential": credential,
        "curl": examples.curl(credential, key.tenant_id, key.allowed_models),
        "old_secret_ends": issued.previous_secret_expires_at,
        "crumbs": admin.crumbs(key, "New secret"),
        "back": admin.place_of(key),
    }
    return render(request, "console/keys/secret.html", context)
