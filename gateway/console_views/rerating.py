"""Re-rating the calls of a model after its price was wrong: the page says what it comes to, and does exactly that."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from django import forms
from django.http import HttpResponse

from providers.models import Model
from providers.prices import price_in_force
from tenants.actor import Actor
from tenants.clock import SYSTEM
from tenants.console import ConfirmedAction
from tenants.console_forms import HouseForm, Moment
from tenants.console_parts import Fact, Line
from tenants.errors import Invalid, ServiceError
from usage import rerating
from usage.money import usd_text
from usage.rerating import Sums, Task

#: Calls that a page looks at; more are for the command, which shows how far it is.
MOST: Final = 20_000


class RerateForm(HouseForm):
    """`seen` names the sums that were shown: they and nothing else are confirmed."""

    pairs: ClassVar = [("since", "until")]

    since = Moment(label="Calls from", help_text="UTC.")
    until = Moment(label="until", help_text="UTC; that moment itself is left out.")
    reason = forms.CharField(
        label="Reason", max_length=256, help_text="It stands beside every correction."
    )
    seen = forms.CharField(required=False, max_length=256, widget=forms.HiddenInput)


class Rerate(ConfirmedAction):
    name = "rerate"
    label = "Re-rate calls…"
    action = "ledger.corrected"
    icon = "i-rotate"
    template = "console/models/rerate.html"
    form_class = RerateForm

    thing: Model
    task: Task | None = None
    sums: Sums | None = None
    #: Why there are no sums for the times that the page begins with.
    refused: str = ""

    def form_options(self) -> dict[str, Any]:
        now = SYSTEM.now().replace(second=0, microsecond=0)
        month = now.replace(day=1, hour=0, minute=0)
        return {"initial": {"since": month, "until": now, "reason": "price corrected"}}

    def heading(self) -> str:
        return f"Re-rate calls of {self.thing.name}"

    def sentence(self) -> str:
        return "Nothing has changed yet. Other times show other sums first."

    def button(self) -> str:
        return "Write the corrections" if self.sums and self.sums.wrong else "Show the sums"

    @property
    def seen(self) -> str:
        """Names what is shown."""
        if self.task is None or self.sums is None:
            return ""
        task, sums = self.task, self.sums
        window = f"{task.since:%Y%m%d%H%M%S} {task.until:%Y%m%d%H%M%S}"
        return f"{task.price.id} {window} {sums.wrong} {sums.was} {sums.now}"

    def impossible(self) -> str:
        if price_in_force(self.thing, SYSTEM.now()) is None:
            return "This model has no price in force to rate by. Add one first."
        return ""

    def changes(self) -> Sequence[Line]:
        sums = self.sums
        if self.task is None or sums is None:
            return ()
        if not sums.wrong:
            return (Line("No call of that time costs anything else.", "i-ok"),)
        since = f"{self.task.price.effective_from:%Y-%m-%d %H:%M}"
        return (
            Line(
                f"{sums.wrong} calls get a line of what they cost by the price from {since}.",
                "i-info",
            ),
            Line(
                f"Together they cost {usd_text(sums.now)} USD, not {usd_text(sums.was)}.", "i-info"
            ),
            Line(f"Budgets, balances and sums follow: {usd_text(sums.delta)} USD.", "i-warn"),
        )

    def stays(self) -> Sequence[Line]:
        return (
            Line("Every line that stands in the ledger, and every price."),
            Line("Calls that were charged by a tenant's own price."),
        )

    def facts(self) -> Sequence[Fact]:
        if self.sums is None:
            return ()
        return (
            Fact("Calls looked at", self.sums.calls),
            Fact("Cost something else", self.sums.wrong),
            Fact("Had no price", self.sums.unpriced),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> Sums:
        self._look(values)
        if self.task is None or self.sums is None or values["seen"] != self.seen:
            raise Invalid("This is what it comes to. Confirm it, or choose other times.")
        if not self.sums.wrong:
            raise Invalid("There is nothing to correct.")
        return rerating.rerate(actor=actor, task=self.task, reason=values["reason"])

    def done_sentence(self) -> str:
        return f"{self.sums.wrong if self.sums else 0} calls were corrected."

    def _look(self, values: dict[str, Any]) -> None:
        self.task = self.sums = None
        task = rerating.task(self.thing, values["since"], values["until"])
        if rerating.has_more_than(task, MOST):
            raise Invalid(
                f"These are more than {MOST} calls: `manage.py prices rerate --model {self.thing.name}`"
                " corrects them, and shows how far it is."
            )
        self.task, self.sums = task, rerating.preview(task)

    def _draw(self, form: HouseForm, *, status: int = 200, stale: str = "") -> HttpResponse:
        """With the sums of the times that the form shows."""
        values = form.cleaned_data if form.is_bound and form.is_valid() else None
        if not form.is_bound:
            values = dict(form.initial)
        if values is not None and self.sums is None and not self.impossible():
            try:
                self._look(values)
            except ServiceError as refusal:
                if form.is_bound:
                    form.add_error(None, refusal.message)
                else:
                    self.refused = refusal.message
        return super()._draw(form, status=status, stale=stale)
