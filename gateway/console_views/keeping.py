"""What an owner does about keeping and forgetting, each asked about first: housekeeping now, and pruning the audit log."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from gateway import housekeeping
from tenants import audit_export, audit_prune, duties, roles, setting_services
from tenants.actor import Actor
from tenants.audit_prune import Segment
from tenants.clock import SYSTEM
from tenants.console import ConfirmedAction, HouseAdmin
from tenants.console_forms import HouseForm, WholeNumber
from tenants.console_parts import Crumb, Fact, Line
from tenants.errands import actor_of, session_in
from tenants.errors import Conflict, Invalid, ServiceError
from tenants.models import AuditPrune
from tenants.tickets import Errand

#: Audit rows that a page prunes; more are for the command, which shows how far it is.
MOST: Final = 10_000
_MOST_DAYS: Final = 3650
_KEPT_DAYS: Final = 365


@dataclass(frozen=True, slots=True)
class _House:
    """The thing that such an action is about. There is one."""

    pk: str = "house"


class _Pages:
    """What a `ConfirmedAction` asks of the pages of its thing, for what is no row: where it belongs."""

    def __init__(self, title: str, url: str, version: str) -> None:
        self._title, self._url, self._version = title, url, version

    def existing(self, request: HttpRequest, object_id: str) -> _House:
        return _House()

    def place_of(self, thing: Any) -> str:
        return self._url

    def crumbs(self, thing: Any, here: str) -> list[Crumb]:
        return [Crumb(self._title, self._url), Crumb(here)]

    def errand(self, request: HttpRequest, action: str, thing: Any) -> Errand:
        return Errand(str(session_in(request).pk), action, _House().pk, self._version)


# --- housekeeping -------------------------------------------------------------------------------------------------------


class Housekeeping(ConfirmedAction):
    """A worker does it, as it does each day: what may take minutes is nothing for a request."""

    name = "housekeeping"
    label = "Housekeeping"
    action = "housekeeping.asked"
    icon = "i-clock"
    allowed = roles.OWNERS

    def heading(self) -> str:
        return "Housekeeping"

    def button(self) -> str:
        return "Do it now"

    def impossible(self) -> str:
        if settings.HOUSEKEEPING:
            return ""
        return "Workers leave it to cron here (GATEHOUSE_HOUSEKEEPING=off): manage.py housekeeping does it."

    def changes(self) -> Sequence[Line]:
        counted = housekeeping.count()
        due = [chore for chore in housekeeping.CHORES if counted.rows[chore.name]]
        if not due:
            return (Line("Nothing is over just now.", "i-ok"),)
        lines = [Line(f"{counted.rows[chore.name]:,} {chore.what} go.", "i-bad") for chore in due]
        return (
            *lines,
            Line("A worker begins within a minute, and works beside the calls.", "i-info"),
        )

    def stays(self) -> Sequence[Line]:
        return (
            Line("Money lines, monthly sums, credits and every running balance."),
            Line("Whatever is younger than its setting says."),
        )

    def facts(self) -> Sequence[Fact]:
        values = {state.name: state.value for state in setting_services.states()}
        days = (
            ("Calls", values["log_retention_days"]),
            ("Audit rows", values["audit_retention_days"]),
            ("Sessions, after their end", values["session_retention_days"]),
        )
        last = duties.done_at(housekeeping.DAILY)
        return (
            *(Fact(name, f"{number} days" if number else "for ever") for name, number in days),
            Fact("Done last", last, is_moment=True) if last else Fact("Done last", "not yet"),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> None:
        if self.impossible():
            raise Conflict(self.impossible())
        housekeeping.ask(actor=actor)

    def done_sentence(self) -> str:
        return "A worker does it within a minute."


def housekeeping_page(request: HttpRequest) -> HttpResponse:
    pages = _Pages("Audit log", reverse("console:audit"), "")
    return Housekeeping(cast(HouseAdmin, pages), request, _House()).respond()


# --- the audit log ------------------------------------------------------------------------------------------------------


class PruneForm(HouseForm):
    """`seen` names the rows that were shown: they and no others are confirmed."""

    keep_days = WholeNumber(label="Keep days", help_text="Rows that are older go into files.")
    seen = forms.CharField(required=False, max_length=256, widget=forms.HiddenInput)


class Prune(ConfirmedAction):
    name = "prune"
    label = "Prune…"
    action = "audit.prune_asked"
    icon = "i-load"
    template = "console/audit/prune.html"
    allowed = roles.OWNERS
    form_class = PruneForm

    segments: Sequence[Segment] | None = None
    days: int = 0

    def form_options(self) -> dict[str, Any]:
        kept = setting_services.value_of("audit_retention_days") or _KEPT_DAYS
        return {"initial": {"keep_days": kept}}

    def heading(self) -> str:
        return "Prune the audit log"

    def sentence(self) -> str:
        return "Nothing has changed yet. Other days show other rows first."

    def button(self) -> str:
        return "Take these rows out" if self.segments else "Show what would go"

    def impossible(self) -> str:
        if not settings.AUDIT_SEGMENTS:
            return "There is no folder for the files: GATEHOUSE_AUDIT_SEGMENTS is empty."
        return audit_export.key_fault() or ""

    @property
    def rows(self) -> int:
        return sum(each.rows for each in self.segments or ())

    @property
    def seen(self) -> str:
        """Names what is shown."""
        whole = "".join(f"{each.scope} {each.last}, " for each in self.segments or ())
        return (
            f"{self.days} {self.rows} {hashlib.sha256(whole.encode()).hexdigest()[:32]}"
            if self.segments
            else ""
        )

    def changes(self) -> Sequence[Line]:
        if not self.segments:
            return (Line("No row is that old.", "i-ok"),)
        chains = len(self.segments)
        return (
            Line(
                f"{self.rows:,} rows of {chains} chain{'s' * (chains > 1)} leave the database.",
                "i-bad",
            ),
            Line("They go into files in", "i-load", mono=settings.AUDIT_SEGMENTS),
            Line("Each segment gets a signed mark, from which verification goes on.", "i-shield"),
        )

    def stays(self) -> Sequence[Line]:
        return (
            Line("Every younger row, and the proof that nothing between was changed."),
            Line("A chain that does not verify, as it is."),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> int:
        if self.impossible():
            raise Conflict(self.impossible())
        self._look(values["keep_days"])
        if not self.segments or values["seen"] != self.seen:
            raise Invalid("This is what would go. Confirm it, or choose other days.")
        if self.rows > MOST:
            raise Invalid(
                f"These are more than {MOST:,} rows: `manage.py audit prune --keep-days {self.days}` takes them"
                " out, and shows how far it is."
            )
        return self.days

    def place(self, result: Any) -> str:
        return reverse("console:audit")

    def done(self, result: Any) -> HttpResponse:
        """Only now: each segment has a transaction of its own, and the form's is over."""
        try:
            outcome = audit_prune.prune(
                actor=actor_of(self.request),
                before=SYSTEM.now() - timedelta(days=int(result)),
                folder=Path(settings.AUDIT_SEGMENTS),
            )
        except ServiceError as refusal:
            messages.error(self.request, refusal.message)
            return HttpResponseRedirect(self.place(result))
        files = len(outcome.marks)
        if files:
            sentence = f"{outcome.rows:,} rows went into {files} file{'s' * (files > 1)}."
            messages.success(self.request, sentence)
        for scope, sentence in outcome.refused.items():
            messages.error(self.request, f"{scope}: {sentence}")
        return HttpResponseRedirect(self.place(result))

    def _look(self, days: int | None) -> None:
        if days is None or not 1 <= days <= _MOST_DAYS:
            raise Invalid.field("keep_days", f"must be between 1 and {_MOST_DAYS}.")
        self.days = days
        self.segments = audit_prune.old(SYSTEM.now() - timedelta(days=days))

    def _draw(self, form: HouseForm, *, status: int = 200, stale: str = "") -> HttpResponse:
        """With the rows of the days that the form shows."""
        values = form.cleaned_data if form.is_bound and form.is_valid() else form.initial
        if self.segments is None and not self.impossible():
            try:
                self._look(values.get("keep_days"))
            except ServiceError:
                self.segments = ()
        return super()._draw(form, status=status, stale=stale)


def prune_page(request: HttpRequest) -> HttpResponse:
    pages = _Pages("Audit log", reverse("console:audit"), str(AuditPrune.objects.count()))
    return Prune(cast(HouseAdmin, pages), request, _House()).respond()
