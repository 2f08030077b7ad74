"""Keys with what was called with them; and what is asked about first: pausing, resuming, rotating, revoking, deleting."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse

from gateway.api.usage import key_usage_body
from gateway.console_views.figures import calls_in_a_day
from gateway.console_views.limits import limits_panel
from keys.admin import KeyAdmin, ShownKey, show_once
from keys.models import APIKey
from keys.services import Issued, delete_key, revoke_key, rotate_key, update_key
from tenants.actor import Actor
from tenants.clock import SYSTEM
from tenants.console import ConfirmedAction, HouseAdmin
from tenants.console_forms import HouseForm, TypedForm
from tenants.console_parts import Fact, Line

_NOW: Final = 0
_DEFAULT_GRACE: Final = 86_400
#: Seconds that the old secret works on, and how that is said.
_GRACES: Final = (
    (_NOW, "Now"),
    (3_600, "In 1 hour"),
    (_DEFAULT_GRACE, "In 24 hours"),
    (604_800, "In 7 days"),
)
_REVOKED: Final = "This key is revoked, and that is for good."
_CONFIG: Final = "This key is managed by the configuration file; change it there."


class _OfKey(ConfirmedAction):
    thing: APIKey

    def __init__(self, admin: HouseAdmin, request: HttpRequest, thing: APIKey) -> None:
        super().__init__(admin, request, thing)
        self.shown = ShownKey.of(thing)

    def impossible(self) -> str:
        if self.thing.revoked_at is not None:
            return _REVOKED
        return _CONFIG if self.thing.source == APIKey.Source.CONFIG else ""

    def facts(self) -> Sequence[Fact]:
        key = self.thing
        return (
            Fact("Tenant", key.tenant.name),
            Fact("Last used", key.last_used_at, is_moment=True),
            Fact("Calls, 24 h", calls_in_a_day(key_id=key.id)),
            Fact("Expires", key.expires_at, is_moment=True),
            Fact("Made by", key.created_by_label),
        )


class PauseKey(_OfKey):
    name, label, action = "pause", "Pause…", "key.paused"

    def heading(self) -> str:
        return f"Pause {self.thing.name}?"

    def button(self) -> str:
        return "Pause"

    def impossible(self) -> str:
        return super().impossible() or ("" if self.thing.is_active else "It is paused.")

    def changes(self) -> Sequence[Line]:
        return (Line("It answers 401, from the next request on.", "i-off"),)

    def stays(self) -> Sequence[Line]:
        return (Line("Secret, limits, spend, logs"), Line("It can be resumed at any time."))

    def act(self, actor: Actor, values: dict[str, Any]) -> APIKey:
        return update_key(actor=actor, key_id=self.thing.id, is_active=False)

    def done_sentence(self) -> str:
        return f"{self.thing.name} is paused."


class ResumeKey(_OfKey):
    name, label, action = "resume", "Resume…", "key.resumed"

    def heading(self) -> str:
        return f"Resume {self.thing.name}?"

    def button(self) -> str:
        return "Resume"

    def impossible(self) -> str:
        return super().impossible() or ("It is not paused." if self.thing.is_active else "")

    def changes(self) -> Sequence[Line]:
        return (Line("It works again, from the next request on.", "i-ok"),)

    def stays(self) -> Sequence[Line]:
        return (Line("Secret, limits, spend, logs"), Line("When it expires"))

    def act(self, actor: Actor, values: dict[str, Any]) -> APIKey:
        return update_key(actor=actor, key_id=self.thing.id, is_active=True)

    def done_sentence(self) -> str:
        return f"{self.thing.name} works again."


class _GraceField(forms.TypedChoiceField):
    """`notes` says of each choice when that is."""

    def __init__(self) -> None:
        super().__init__(
            label="When does the old secret stop?",
            choices=_GRACES,
            coerce=int,
            initial=_DEFAULT_GRACE,
            widget=forms.RadioSelect,
        )
        now = SYSTEM.now()
        self.notes = {
            str(seconds): f"{now + timedelta(seconds=seconds):%a %-d %b, %H:%M} UTC"
            if seconds
            else "Who has it fails at once; type the name below"
            for seconds, _ in _GRACES
        }


class RotateForm(HouseForm):
    def __init__(self, *args: Any, name: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._name = name
        self.fields["grace"] = _GraceField()
        self.fields["typed"] = forms.CharField(
            label="Key name, only for “Now”",
            required=False,
            max_length=512,
            help_text=f"Type {name}",
            widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        )

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if values.get("grace") == _NOW and values.get("typed") != self._name:
            self.add_error("typed", ValidationError("must be typed when the old secret stops now."))
        return values


class RotateKey(_OfKey):
    name, label, action = "rotate", "Rotate…", "key.rotated"
    icon = "i-rotate"
    form_class = RotateForm

    def heading(self) -> str:
        return f"Rotate the secret of {self.thing.name}?"

    def sentence(self) -> str:
        return "Nothing has changed yet. The new secret is shown once, on the next page."

    def button(self) -> str:
        return "Rotate and show the new secret"

    def form_options(self) -> dict[str, Any]:
        return {"name": self.thing.name}

    def changes(self) -> Sequence[Line]:
        return (
            Line("The secret.", "i-rotate", f"{self.shown.prefix}…", " is replaced."),
            Line("The old one stops when you say below.", "i-clock"),
            Line("One audit row,", "i-info", "key.rotated", ", under your name."),
        )

    def stays(self) -> Sequence[Line]:
        return (
            Line("Key id, name, project, team, scopes"),
            Line("Limits, models, allowed addresses"),
            Line("Spend, history, logs"),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> Issued:
        return rotate_key(actor=actor, key_id=self.thing.id, grace_period_seconds=values["grace"])

    def done(self, result: Any) -> HttpResponse:
        issued: Issued = result
        heading = f"The new secret of {issued.key.name}"
        if issued.previous_secret_expires_at is None:
            sentence = "It works already. The old one has stopped."
        else:
            ends = issued.previous_secret_expires_at
            sentence = f"It works already; so does the old one, until {ends:%a %-d %b, %H:%M} UTC."
        return show_once(self.request, self.admin, issued, heading, sentence)


class RevokeForm(TypedForm):
    reason = forms.CharField(
        label="Reason",
        max_length=256,
        required=False,
        help_text="Kept with the key and in the audit log.",
    )


class RevokeKey(_OfKey):
    name, label, action = "revoke", "Revoke…", "key.revoked"
    danger = True
    form_class = RevokeForm

    def heading(self) -> str:
        return f"Revoke {self.thing.name}?"

    def sentence(self) -> str:
        return "Nothing has changed yet. Afterwards it can never be turned on again; pausing it can be undone."

    def button(self) -> str:
        return "Revoke for good"

    def impossible(self) -> str:
        """Also a key of the configuration file can be revoked."""
        key = self.thing
        if key.revoked_at is None:
            return ""
        return (
            f"{key.revoked_by_label} revoked this key on {key.revoked_at:%-d %b %Y at %H:%M} UTC."
        )

    def form_options(self) -> dict[str, Any]:
        return {"expected": self.shown.prefix, "what": "prefix"}

    def changes(self) -> Sequence[Line]:
        return (
            Line("It answers 401, from the next request on, old secrets too.", "i-off"),
            Line("Calls that are running with it end.", "i-clock"),
        )

    def stays(self) -> Sequence[Line]:
        return (
            Line("The key stays to be seen, with who revoked it and why"),
            Line("Its logs and spend"),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> APIKey:
        return revoke_key(actor=actor, key_id=self.thing.id, reason=values["reason"])

    def done_sentence(self) -> str:
        return f"{self.thing.name} is revoked."


class DeleteKey(_OfKey):
    name, label, action = "delete", "Delete for good…", "key.deleted"
    danger = True
    form_class = TypedForm

    def heading(self) -> str:
        return f"Delete {self.thing.name} for good?"

    def sentence(self) -> str:
        return "Nothing has changed yet. Revoking it does as much and leaves it to be seen."

    def button(self) -> str:
        return "Delete for good"

    def impossible(self) -> str:
        """A revoked key can be deleted."""
        return _CONFIG if self.thing.source == APIKey.Source.CONFIG else ""

    def form_options(self) -> dict[str, Any]:
        return {"expected": self.shown.prefix, "what": "prefix"}

    def changes(self) -> Sequence[Line]:
        return (Line("The key goes, with its settings. Nothing brings it back.", "i-bad"),)

    def stays(self) -> Sequence[Line]:
        return (Line("Logs, ledger and audit, under its prefix"),)

    def act(self, actor: Actor, values: dict[str, Any]) -> None:
        delete_key(actor=actor, key_id=self.thing.id)

    def place(self, result: Any) -> str:
        return self.admin.url()

    def done_sentence(self) -> str:
        return f"{self.thing.name} is deleted."


class KeyPages(KeyAdmin):
    confirmed_actions = (RotateKey, PauseKey, ResumeKey, RevokeKey, DeleteKey)

    def detail_context(self, request: HttpRequest, thing: APIKey) -> dict[str, Any]:
        now = SYSTEM.now()
        return {
            **super().detail_context(request, thing),
            "use": key_usage_body(thing, now),
            "panel": limits_panel("key", thing, now),
            "calls": calls_in_a_day(key_id=thing.id),
        }
