"""What the console asks for providers, models and prices. What the answers may be, the services say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from django import forms
from django.core.exceptions import ValidationError

from providers import presets, services
from providers.console_grants import GrantFields
from providers.models import Model, Provider, Target
from providers.presets import Preset
from tenants.console_forms import HouseForm, Moment, OneOf, WholeNumber
from tenants.console_parts import OFFERED_TENANTS
from tenants.models import Tenant

#: Rows for targets that a form has beside those that are filled in, and at most.
_SPARE_ROWS: Final = 3
_MOST_ROWS: Final = 32

ADDRESS_RULE: Final = (
    "Only https and public addresses are called, and every address that the name has is judged at each connection."
    " Plain http and private networks have to be let through with GATEHOUSE_ALLOWED_UPSTREAMS."
)


class SecretText(forms.CharField):
    """A credential on its way in. What was typed is never drawn again, whatever was wrong with the rest of the form."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.PasswordInput(
            render_value=False,
            attrs={"autocomplete": "off", "spellcheck": "false", "class": "input-mono"},
        )
        super().__init__(widget=widget, strip=True, **kwargs)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(data)


class TenantText(forms.CharField):
    """A tenant by slug or id; empty is null. `offered` names those that one can choose from."""

    def __init__(self, *, offered: Sequence[tuple[str, str]] = (), **kwargs: Any) -> None:
        super().__init__(required=False, max_length=64, **kwargs)
        self.offered = offered

    def clean(self, value: Any) -> Any:
        return super().clean(value) or None


class ProviderForm(GrantFields):
    """A provider of one kind: only what this kind has is asked for. Nothing typed for the credential: it stays as it is."""

    pairs: ClassVar = [("deployment", "api_version"), ("availability", "tenants")]
    limits_hint = "For all calls that go there, whoever makes them. Empty is no limit."

    kind = forms.CharField(widget=forms.HiddenInput)
    name = forms.CharField(
        label="Name",
        max_length=128,
        help_text="Unique among the shared ones, or within its tenant. Imported models are called after it.",
    )
    base_url = forms.CharField(label="Base URL", max_length=512, required=False)
    deployment = forms.CharField(
        label="Deployment",
        max_length=64,
        required=False,
        help_text="Empty: the upstream model of each target names its deployment.",
    )
    api_version = forms.CharField(
        label="API version",
        max_length=32,
        required=False,
        help_text="Empty: the one that this release was tested with.",
    )
    disconnect_policy = OneOf(
        label="When a caller leaves",
        choices=[
            (Provider.DisconnectPolicy.CANCEL, "Close the call at once"),
            (Provider.DisconnectPolicy.DRAIN, "Read on to the usage it reports"),
        ],
        help_text="Closed, a call is charged by what had come, as an estimate. Read on, within limits, by the provider's own"
        " figures; it is paid for in full.",
    )
    timeout_seconds = WholeNumber(
        label="Seconds for one call",
        required=False,
        help_text="From its beginning to its end, streams too. Empty: the house’s limits of time.",
    )
    api_key = SecretText(label="Credential", required=False, max_length=4096)
    clear_api_key = forms.BooleanField(
        label="Remove the stored credential",
        required=False,
        help_text="Calls then go out without one.",
    )
    tenant = TenantText(
        label="Tenant",
        help_text="Its slug or id, for a provider that only this tenant's own models use. Empty: shared.",
    )

    def __init__(
        self,
        *args: Any,
        preset: Preset,
        has_credential: bool = False,
        is_new: bool = True,
        tenants: Sequence[tuple[str, str]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.preset = preset
        self.fields["disconnect_policy"].required = False
        self.fields["api_key"].help_text = self._about_credential(has_credential)
        self._ask_only_for_what_it_has(has_credential=has_credential, is_new=is_new)
        if "base_url" in self.fields:
            self.fields["base_url"].required = not preset.base_url
            self.fields["base_url"].help_text = self._about_address()
            self.fields["base_url"].widget.attrs |= {
                "placeholder": preset.base_url,
                "class": "input-mono",
                "inputmode": "url",
                "spellcheck": "false",
            }
        if isinstance(field := self.fields.get("tenant"), TenantText):
            field.offered = tenants
            field.widget.attrs["list"] = "id_tenant-offered"

    def _ask_only_for_what_it_has(self, *, has_credential: bool, is_new: bool) -> None:
        unused = set(services.ACCOUNT_FIELDS) - services.dialect_of(self.preset.name).FIELDS
        if self.preset.in_process:
            unused |= {"base_url", "api_key", "clear_api_key"}
        if not has_credential:
            unused.add("clear_api_key")
        if not is_new:
            unused |= {"kind", "tenant"}
        for name in unused:
            self.fields.pop(name, None)

    def _about_address(self) -> str:
        default = f"Empty: {self.preset.base_url}. " if self.preset.base_url else ""
        return default + ADDRESS_RULE

    def _about_credential(self, has_credential: bool) -> str:
        if has_credential:
            return "One is set. Leave this empty to keep it; it is never shown."
        need = "" if self.preset.needs_key else "Leave it empty if the upstream asks for none. "
        return need + "It is sealed before it is stored, and never shown again."

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if values.get("api_key") and values.get("clear_api_key"):
            self.add_error(
                "clear_api_key", "Either enter a new credential, or remove the stored one."
            )
        return values

    def given(self) -> dict[str, Any]:
        """Everything, for a new provider."""
        return self._for_the_service(self.cleaned_data)

    def changed(self) -> dict[str, Any]:
        return self._for_the_service(super().changed())

    def _for_the_service(self, values: dict[str, Any]) -> dict[str, Any]:
        """An empty credential is left out, which keeps the stored one; a tick for its removal is null."""
        clean = {
            name: (value or None) if name in services.ACCOUNT_FIELDS else value
            for name, value in self.with_grants(values, self.cleaned_data).items()
            if name not in {"api_key", "clear_api_key"}
        }
        if not clean.get("disconnect_policy"):
            clean.pop("disconnect_policy", None)
        if values.get("api_key"):
            clean["api_key"] = values["api_key"]
        elif values.get("clear_api_key"):
            clean["api_key"] = None
        return clean

    @property
    def typed_credential(self) -> bool:
        """Whether one was typed, which has to be typed again when the form comes back."""
        return bool(self.data.get("api_key"))


class CredentialForm(HouseForm):
    api_key = SecretText(
        label="New credential",
        max_length=4096,
        help_text="It is sealed before it is stored, and never shown again.",
    )


class UnlinkForm(HouseForm):
    """`unlink` is asked for where models would be left with a target that serves nothing."""

    unlink = forms.BooleanField(required=False)

    def __init__(self, *args: Any, models: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if models:
            noun = "1 model keeps a target" if models == 1 else f"{models} models keep targets"
            self.fields["unlink"].label = f"Unlink: {noun} without a provider"
        else:
            del self.fields["unlink"]

    def clean_unlink(self) -> bool:
        if not self.cleaned_data["unlink"]:
            raise ValidationError("Tick this, or lead these models elsewhere first.")
        return True


class ImportForm(HouseForm):
    match = forms.CharField(
        label="Which ids",
        max_length=128,
        initial="*",
        help_text="A pattern on the upstream's ids: * is any text, gpt-* what begins with gpt-.",
        widget=forms.TextInput(attrs={"class": "input-mono", "size": "24", "spellcheck": "false"}),
    )


# --- models -----------------------------------------------------------------------------------------------------------


class Price(forms.CharField):
    """USD per million tokens, as text: money is never a float."""

    def __init__(self, *, required: bool = False, **kwargs: Any) -> None:
        attrs = {"inputmode": "decimal", "autocomplete": "off", "size": "14"}
        super().__init__(
            required=required, max_length=24, widget=forms.TextInput(attrs=attrs), **kwargs
        )

    def clean(self, value: Any) -> Any:
        return super().clean(value) or None


class PriceForm(HouseForm):
    """One dated price. The first two must be given; of the others, empty is the price that they are part of, or nothing."""

    pairs: ClassVar = [
        ("input_usd_per_mtok", "output_usd_per_mtok"),
        ("cached_input_usd_per_mtok", "cache_write_usd_per_mtok"),
        ("reasoning_usd_per_mtok", "per_request_usd"),
        ("per_image_usd", "per_minute_usd"),
        ("long_context_input_usd_per_mtok", "long_context_output_usd_per_mtok"),
        ("long_context_cached_input_usd_per_mtok", "long_context_cache_write_usd_per_mtok"),
    ]

    effective_from = Moment(
        label="From",
        required=False,
        help_text="UTC. Empty: from now on. Once a model has a price, a new one cannot begin in the past:"
        " what was charged stays as it was charged.",
    )
    tenant = TenantText(
        label="Only for tenant",
        help_text="Its slug or id, to charge it another price than everybody. Empty: for everybody.",
    )
    input_usd_per_mtok = Price(label="Input, USD per million tokens", required=True)
    output_usd_per_mtok = Price(label="Output, USD per million tokens", required=True)
    cached_input_usd_per_mtok = Price(
        label="Cached input, USD per million", help_text="Empty: as the input."
    )
    cache_write_usd_per_mtok = Price(
        label="Written to the cache, USD per million", help_text="Empty: as the input."
    )
    reasoning_usd_per_mtok = Price(
        label="Reasoning, USD per million", help_text="Empty: as the output."
    )
    per_request_usd = Price(label="Each request, USD", help_text="Empty: nothing.")
    per_image_usd = Price(label="Each image, USD", help_text="Empty: nothing.")
    per_minute_usd = Price(label="Each minute of sound, USD", help_text="Empty: nothing.")
    long_context_from_tokens = WholeNumber(
        label="Long context above, input tokens",
        required=False,
        help_text="A call with more than so many costs the prices below, for all of its tokens.",
    )
    long_context_input_usd_per_mtok = Price(
        label="Input, long context", help_text="Empty: as a short one."
    )
    long_context_output_usd_per_mtok = Price(
        label="Output, long context", help_text="Empty: as a short one."
    )
    long_context_cached_input_usd_per_mtok = Price(
        label="Cached input, long context", help_text="Empty: as a short one."
    )
    long_context_cache_write_usd_per_mtok = Price(
        label="Written to the cache, long context", help_text="Empty: as a short one."
    )

    def __init__(
        self, *args: Any, is_shared: bool = True, tenants: Sequence[tuple[str, str]] = (), **kw: Any
    ) -> None:
        super().__init__(*args, **kw)
        if not is_shared:
            del self.fields["tenant"]
        elif isinstance(field := self.fields["tenant"], TenantText):
            field.offered = tenants
            field.widget.attrs["list"] = "id_tenant-offered"


@dataclass(frozen=True, slots=True)
class TargetRow:
    """The fields of one target, side by side."""

    number: int
    provider: forms.BoundField
    upstream_model: forms.BoundField
    priority: forms.BoundField


class ModelForm(GrantFields):
    """A public name with its ordered targets: a row of three fields for each, and some to spare."""

    pairs: ClassVar = [("context_window", "max_output_tokens"), ("availability", "tenants")]
    limits_hint = (
        "For all calls of it, whoever makes them. Its limits on requests take the place of its provider’s;"
        " the others count beside them. Empty is no limit of its own."
    )

    id = forms.CharField(
        label="Public id",
        max_length=128,
        help_text="What callers ask for; it cannot be changed later. No spaces; a * at the end passes every name with"
        " that beginning through.",
        widget=forms.TextInput(attrs={"class": "input-mono", "spellcheck": "false"}),
    )
    capability = OneOf(label="Capability", choices=Model.Capability.choices)
    context_window = WholeNumber(label="Context window, tokens", required=False)
    max_output_tokens = WholeNumber(label="Most output, tokens", required=False)
    tenant = TenantText(
        label="Tenant",
        help_text="Its slug or id, for a model of its own, which wins over a shared one of the name. Empty: shared.",
    )

    def __init__(
        self,
        *args: Any,
        providers: Sequence[tuple[str, str]],
        targets: Sequence[Target] = (),
        is_new: bool = True,
        tenants: Sequence[tuple[str, str]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.is_new = is_new
        if is_new:
            field = self.fields["tenant"]
            assert isinstance(field, TenantText)  # noqa: S101 - declared above
            field.offered = tenants
            field.widget.attrs["list"] = "id_tenant-offered"
        else:
            del self.fields["id"], self.fields["tenant"]
        self._add_rows(providers, targets)

    def _add_rows(self, providers: Sequence[tuple[str, str]], targets: Sequence[Target]) -> None:
        posted = sum(f"provider-{number}" in self.data for number in range(_MOST_ROWS))
        self.row_count = min(max(len(targets) + _SPARE_ROWS, posted), _MOST_ROWS)
        for number in range(self.row_count):
            target = targets[number] if number < len(targets) else None
            names = (f"provider-{number}", f"upstream_model-{number}", f"priority-{number}")
            first, second, third = names
            self.fields[first] = OneOf(label="Provider", empty="No target", choices=providers)
            self.fields[second] = forms.CharField(
                label="Upstream model", required=False, max_length=256
            )
            self.fields[second].widget.attrs |= {"class": "input-mono", "spellcheck": "false"}
            self.fields[third] = WholeNumber(label="Priority", required=False)
            self.fields[third].widget.attrs["size"] = "4"
            if target is not None:
                self.initial[first] = str(target.provider_id) if target.provider_id else ""
                self.initial[second] = target.upstream_model
                self.initial[third] = target.priority

    def target_rows(self) -> Iterator[TargetRow]:
        for number in range(self.row_count):
            yield TargetRow(
                number + 1,
                self[f"provider-{number}"],
                self[f"upstream_model-{number}"],
                self[f"priority-{number}"],
            )

    def rows(self) -> list[list[forms.BoundField]]:
        """The fields beside the targets."""
        return [row for row in super().rows() if not _is_of_target(row[0].name)]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        for number in range(self.row_count):
            provider = values.get(f"provider-{number}")
            named = values.get(f"upstream_model-{number}")
            if named and not provider and f"provider-{number}" not in self.errors:
                self.add_error(
                    f"provider-{number}", ValidationError("Choose one, or empty the row.")
                )
            if provider and not named and f"upstream_model-{number}" not in self.errors:
                self.add_error(f"upstream_model-{number}", "Name the model at this provider.")
        return values

    def targets(self) -> list[dict[str, Any]]:
        """The rows that are filled in, as the service takes them."""
        return [
            {
                "provider": self.cleaned_data[f"provider-{number}"],
                "upstream_model": self.cleaned_data[f"upstream_model-{number}"],
                "priority": self.cleaned_data[f"priority-{number}"] or 0,
            }
            for number in range(self.row_count)
            if self.cleaned_data.get(f"provider-{number}")
        ]

    def changed(self) -> dict[str, Any]:
        values = self.with_grants(super().changed(), self.cleaned_data)
        plain = {name: value for name, value in values.items() if not _is_of_target(name)}
        return plain if len(plain) == len(values) else {**plain, "targets": self.targets()}

    def given(self) -> dict[str, Any]:
        """Everything, for a new model."""
        values = self.with_grants(self.cleaned_data, self.cleaned_data)
        plain = {name: value for name, value in values.items() if not _is_of_target(name)}
        return {**plain, "targets": self.targets()}


def _is_of_target(name: str) -> bool:
    return "-" in name


def offered_tenants() -> list[tuple[str, str]]:
    """Slugs and names that one can choose from."""
    return list(Tenant.objects.order_by("name").values_list("slug", "name")[:OFFERED_TENANTS])


def preset_choices() -> list[Preset]:
    """Every kind, what people know best first."""
    return list(presets.PRESETS.values())
