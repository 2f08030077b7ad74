"""What the console asks about before it does it to a provider or a model."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from providers import credentials, model_services, services
from providers.console_forms import CredentialForm, PriceForm, UnlinkForm, offered_tenants
from providers.models import Model, Provider
from tenants.actor import Actor
from tenants.console import ConfirmedAction
from tenants.console_forms import HouseForm
from tenants.console_parts import Fact, Line
from tenants.errors import Invalid

#: Names that a page spells out; the rest is a number.
_NAMED = 12


def named(models: Sequence[Model]) -> list[Line]:
    """A line for each, as far as they fit."""
    lines = [Line("", "i-info", mono=model.name) for model in models[:_NAMED]]
    rest = len(models) - _NAMED
    return [*lines, Line(f"and {rest} more")] if rest > 0 else lines


class OfAProvider(ConfirmedAction):
    """Knows the models that route to the provider."""

    thing: Provider

    @cached_property
    def models(self) -> list[Model]:
        return list(Model.objects.filter(targets__provider=self.thing).distinct().order_by("name"))

    @cached_property
    def stranded(self) -> list[Model]:
        """Those that have no other provider that is on."""
        others = Provider.objects.filter(is_active=True).exclude(pk=self.thing.pk)
        elsewhere = set(
            Model.objects.filter(
                targets__provider__in=others, pk__in=[it.pk for it in self.models]
            ).values_list("pk", flat=True)
        )
        return [model for model in self.models if model.pk not in elsewhere]

    def facts(self) -> Sequence[Fact]:
        return (
            Fact("Kind", self.thing.kind),
            Fact("Models that route here", len(self.models)),
            Fact("With no other way", len(self.stranded)),
        )


class TurnOffProvider(OfAProvider):
    name = "turn-off"
    label = "Turn off…"
    action = "provider.updated"
    icon = "i-off"

    def heading(self) -> str:
        return f"Turn {self.thing.name} off?"

    def button(self) -> str:
        return "Turn off"

    def impossible(self) -> str:
        return "" if self.thing.is_active else "This provider is off already."

    def changes(self) -> Sequence[Line]:
        if not self.stranded:
            return (
                Line(
                    "No call goes here from the next request on; each model has another way.",
                    "i-off",
                ),
            )
        stopped = Line(
            "Calls of these models are refused (503), for they have no other way:", "i-warn"
        )
        return (stopped, *named(self.stranded))

    def stays(self) -> Sequence[Line]:
        return (
            Line("Calls that run now end as they would."),
            Line("Credential, models and their order stay; turning it on again restores all."),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> Any:
        return services.update_provider(actor=actor, provider_id=self.thing.id, is_active=False)

    def done_sentence(self) -> str:
        return f"{self.thing.name} is off."


class TurnOnProvider(OfAProvider):
    name = "turn-on"
    label = "Turn on…"
    action = "provider.updated"
    icon = "i-ok"

    def heading(self) -> str:
        return f"Turn {self.thing.name} on?"

    def button(self) -> str:
        return "Turn on"

    def impossible(self) -> str:
        return "This provider is on already." if self.thing.is_active else ""

    def changes(self) -> Sequence[Line]:
        if not self.models:
            return (Line("It may be called; no model routes to it yet.", "i-ok"),)
        return (
            Line("These models may go this way from the next request on:", "i-ok"),
            *named(self.models),
        )

    def stays(self) -> Sequence[Line]:
        return (Line("Credential and models are as they were."),)

    def act(self, actor: Actor, values: dict[str, Any]) -> Any:
        return services.update_provider(actor=actor, provider_id=self.thing.id, is_active=True)

    def done_sentence(self) -> str:
        return f"{self.thing.name} is on."


class RotateCredential(OfAProvider):
    name = "rotate-credential"
    label = "Rotate credential…"
    action = "provider.credential_rotated"
    icon = "i-rotate"
    form_class = CredentialForm

    def heading(self) -> str:
        return f"Rotate the credential of {self.thing.name}?"

    def button(self) -> str:
        return "Use the new credential"

    def changes(self) -> Sequence[Line]:
        return (
            Line("Every call from the next one on goes out with the new credential.", "i-rotate"),
            Line(
                "The old one is wiped here; revoke it at the upstream once the test has passed.",
                "i-warn",
            ),
        )

    def stays(self) -> Sequence[Line]:
        return (
            Line("Calls that run now end with the old one."),
            Line("Address, models and prices."),
        )

    def facts(self) -> Sequence[Fact]:
        row = credentials.current(self.thing)
        return (
            *super().facts(),
            Fact("Credential", f"version {row.version}" if row else "none"),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> Any:
        return services.rotate_credential(
            actor=actor, provider_id=self.thing.id, api_key=values["api_key"]
        )

    def done_sentence(self) -> str:
        return "The new credential is in use. Test the connection before you revoke the old one."


class DeleteProvider(OfAProvider):
    name = "delete"
    label = "Delete…"
    action = "provider.deleted"
    danger = True
    form_class = UnlinkForm

    def heading(self) -> str:
        return f"Delete {self.thing.name}?"

    def button(self) -> str:
        return "Delete for good"

    def form_options(self) -> dict[str, Any]:
        return {"models": len(self.models)}

    def changes(self) -> Sequence[Line]:
        gone = Line("Its address and its sealed credential are gone for good.", "i-bad")
        if not self.models:
            return (gone,)
        return (
            gone,
            Line("These models lose the target that leads here:", "i-warn"),
            *named(self.models),
        )

    def stays(self) -> Sequence[Line]:
        return (
            Line("Models, with their prices and other targets."),
            Line("Log, ledger and audit: they keep its name."),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> Any:
        services.delete_provider(
            actor=actor, provider_id=self.thing.id, unlink=bool(values.get("unlink"))
        )

    def done_sentence(self) -> str:
        return f"{self.thing.name} is deleted."

    def place(self, result: Any) -> str:
        return self.admin.url()


# --- models -----------------------------------------------------------------------------------------------------------


class TurnOffModel(ConfirmedAction):
    name = "turn-off"
    label = "Turn off…"
    action = "model.updated"
    icon = "i-off"

    def heading(self) -> str:
        return f"Turn {self.thing.name} off?"

    def button(self) -> str:
        return "Turn off"

    def impossible(self) -> str:
        return "" if self.thing.is_active else "This model is off already."

    def changes(self) -> Sequence[Line]:
        return (
            Line(
                "It is not listed any more; who asks for it gets 404, unless a provider of their own takes the name.",
                "i-off",
            ),
        )

    def stays(self) -> Sequence[Line]:
        return (
            Line("Calls that run now end as they would."),
            Line("Targets and prices; turning it on again restores all."),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> Any:
        return model_services.update_model(actor=actor, model_id=self.thing.id, is_active=False)

    def done_sentence(self) -> str:
        return f"{self.thing.name} is off."


class TurnOnModel(ConfirmedAction):
    name = "turn-on"
    label = "Turn on…"
    action = "model.updated"
    icon = "i-ok"

    def heading(self) -> str:
        return f"Turn {self.thing.name} on?"

    def button(self) -> str:
        return "Turn on"

    def impossible(self) -> str:
        return "This model is on already." if self.thing.is_active else ""

    def changes(self) -> Sequence[Line]:
        return (Line("Keys that may call it can do so from the next request on.", "i-ok"),)

    def stays(self) -> Sequence[Line]:
        return (Line("Targets and prices are as they were."),)

    def act(self, actor: Actor, values: dict[str, Any]) -> Any:
        return model_services.update_model(actor=actor, model_id=self.thing.id, is_active=True)

    def done_sentence(self) -> str:
        return f"{self.thing.name} is on."


def _about_the_price(sentence: str) -> Invalid:
    """What the service says of its list is about a field of this one price: the one it names, or its moment."""
    field, _, said = sentence.partition(": ")
    if said and field in PriceForm.base_fields:
        return Invalid.field(field, said)
    return Invalid.field("effective_from", sentence.removeprefix("effective_from "))


class AddPrice(ConfirmedAction):
    name = "add-price"
    label = "Add a price…"
    action = "model.updated"
    form_class = PriceForm

    def form_options(self) -> dict[str, Any]:
        return {"is_shared": self.thing.tenant_id is None, "tenants": offered_tenants()}

    def heading(self) -> str:
        return f"Add a price to {self.thing.name}"

    def sentence(self) -> str:
        return "A price is never changed, only followed by another."

    def button(self) -> str:
        return "Add the price"

    def changes(self) -> Sequence[Line]:
        return (Line("Calls that begin from its moment on are charged by it.", "i-clock"),)

    def stays(self) -> Sequence[Line]:
        return (Line("What was charged before, and every earlier price."),)

    def act(self, actor: Actor, values: dict[str, Any]) -> Any:
        try:
            return model_services.update_model(actor=actor, model_id=self.thing.id, prices=[values])
        except Invalid as refusal:
            if sentence := refusal.fields.get("prices"):
                raise _about_the_price(sentence) from None
            raise

    def done_sentence(self) -> str:
        return "The price is added."


class DeleteModel(ConfirmedAction):
    name = "delete"
    label = "Delete…"
    action = "model.deleted"
    danger = True
    form_class = HouseForm

    def heading(self) -> str:
        return f"Delete {self.thing.name}?"

    def button(self) -> str:
        return "Delete for good"

    def changes(self) -> Sequence[Line]:
        return (
            Line("Who asks for it gets 404 from the next request on.", "i-bad"),
            Line("Its targets and its prices are gone for good.", "i-bad"),
        )

    def stays(self) -> Sequence[Line]:
        return (
            Line("What its calls cost: log and ledger keep the name and the money."),
            Line("The providers that it led to."),
        )

    def act(self, actor: Actor, values: dict[str, Any]) -> Any:
        model_services.delete_model(actor=actor, model_id=self.thing.id)

    def done_sentence(self) -> str:
        return f"{self.thing.name} is deleted."

    def place(self, result: Any) -> str:
        return self.admin.url()


PROVIDER_ACTIONS: tuple[type[ConfirmedAction], ...] = (
    RotateCredential,
    TurnOffProvider,
    TurnOnProvider,
    DeleteProvider,
)
MODEL_ACTIONS: tuple[type[ConfirmedAction], ...] = (
    AddPrice,
    TurnOffModel,
    TurnOnModel,
    DeleteModel,
)
