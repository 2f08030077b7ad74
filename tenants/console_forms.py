"""Forms of the console. They read what somebody typed; whether it is allowed, the services say (tenants/validation.py), so that
every door refuses the same things with the same words.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError

_LONGEST_LIST = 16 * 1024
_TIME_FORMATS = ("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")


class HouseForm(forms.Form):
    """`pairs` names fields that stand side by side. `templates/console/form.html` draws it, with its summary of errors."""

    pairs: ClassVar[Sequence[tuple[str, str]]] = ()
    use_required_attribute = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.error_messages["required"] = "must not be empty."

    def rows(self) -> list[list[forms.BoundField]]:
        """The visible fields in order, those of a pair together."""
        partner = dict(self.pairs)
        taken = set(partner.values())
        return [
            [self[field.name], self[partner[field.name]]] if field.name in partner else [field]
            for field in self.visible_fields()
            if field.name not in taken
        ]

    def changed(self) -> dict[str, Any]:
        """What differs from what the form was drawn with."""
        return {
            name: self.cleaned_data[name] for name in self.changed_data if name in self.cleaned_data
        }

    def show_what_stands(self) -> None:
        """Beside each field that is not as stored, what is stored: who sends the form again replaces it knowingly."""
        for name in self.changed_data:
            bound = self[name]
            if not isinstance(bound.field.widget, forms.PasswordInput):
                self.add_error(name, f"is {_said(bound)} now, which this would replace.")


def _said(bound: forms.BoundField) -> str:
    """What a field was drawn with, in words."""
    value = bound.initial
    if isinstance(value, bool):
        return "ticked" if value else "not ticked"
    if isinstance(bound.field, forms.ChoiceField):
        choices: Any = bound.field.choices
        offered = {str(choice): str(label) for choice, label in choices}
        chosen = value if isinstance(value, list) else [value] if value else []
        return ", ".join(offered.get(str(each), str(each)) for each in chosen) or "empty"
    shown = bound.field.prepare_value(value)
    if isinstance(shown, datetime):
        return f"{shown:%Y-%m-%d %H:%M}"
    return ", ".join(str(shown).splitlines()) if shown not in (None, "") else "empty"


class TypedForm(HouseForm):
    """For what cannot be undone: somebody types what it is about."""

    def __init__(self, *args: Any, expected: str, what: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._expected = expected
        attributes = {"autocomplete": "off", "spellcheck": "false", "class": "input-mono"}
        self.fields["typed"] = forms.CharField(
            label=f"Type the {what}, {expected}",
            max_length=512,
            widget=forms.TextInput(attrs=attributes),
        )

    def clean_typed(self) -> str:
        typed: str = self.cleaned_data["typed"]
        if typed != self._expected:
            raise ValidationError("is not what is asked for.")
        return typed


class WholeNumber(forms.Field):
    """Empty is null, which is no limit. What is no whole number is refused, not rounded."""

    widget = forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off", "size": "12"})

    def to_python(self, value: object) -> int | None:
        text = str(value).strip() if value is not None else ""
        if not text:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise ValidationError("must be a positive integer, or empty for none.")
        return int(text)


class Dollars(forms.CharField):
    """An amount of USD as text, for money is never a float. Empty is null."""

    def __init__(self, **kwargs: Any) -> None:
        attrs = {"inputmode": "decimal", "autocomplete": "off", "size": "14"}
        widget = forms.TextInput(attrs=attrs)
        super().__init__(required=False, max_length=24, widget=widget, **kwargs)

    def clean(self, value: Any) -> Any:
        return super().clean(value) or None


class Lines(forms.Field):
    """One name a line; empty is null. `nothing` says what null means."""

    widget = forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "autocomplete": "off"})

    def to_python(self, value: object) -> list[str] | None:
        if isinstance(value, list):
            return value
        text = str(value or "")
        if len(text) > _LONGEST_LIST:
            raise ValidationError("is too long.")
        lines = [line.strip() for line in text.replace(",", "\n").splitlines()]
        return [line for line in lines if line] or None

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(initial) != self.to_python(data))
        except ValidationError:
            return True


class Moment(forms.Field):
    """A time in UTC; empty is null."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")

    def to_python(self, value: object) -> datetime | None:
        if isinstance(value, datetime):
            return value
        text = str(value or "").strip().removesuffix("Z")
        if not text:
            return None
        for form in _TIME_FORMATS:
            try:
                return datetime.strptime(text, form).replace(tzinfo=UTC)
            except ValueError:
                continue
        raise ValidationError("must be a time in UTC like 2026-01-31 12:00.")

    def prepare_value(self, value: Any) -> Any:
        return value.astimezone(UTC) if isinstance(value, datetime) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        """To the minute: the field shows no seconds."""
        try:
            before, after = self.to_python(initial), self.to_python(data)
        except ValidationError:
            return True
        if before is None or after is None:
            return before is not after
        return before.replace(second=0, microsecond=0) != after.replace(second=0, microsecond=0)


class OneOf(forms.ChoiceField):
    """A choice among few; `empty` is offered first and is null."""

    def __init__(self, *, empty: str = "", choices: Any = (), **kwargs: Any) -> None:
        self._empty = empty
        offered = [("", empty), *choices] if empty else choices
        super().__init__(choices=offered, required=not empty, **kwargs)

    def clean(self, value: Any) -> Any:
        return super().clean(value) or None if self._empty else super().clean(value)


class SomeOf(forms.MultipleChoiceField):
    """Some of a few; none is null."""

    def clean(self, value: Any) -> list[str] | None:
        return super().clean(value) or None

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(initial or [], data or [])
