"""The rules of values, in one place: the admin API, the commands and the console refuse the same things with the same words.

Each function returns the value as it is to be stored or raises `Invalid` naming the field.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.dateparse import parse_datetime

from tenants.errors import Invalid
from tenants.models import MAX_REQUESTS

SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
TEAM = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Of a model's name: no spaces, no control and no direction characters.
_LETTER = r"[^\s*\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
MODEL_PATTERN = re.compile(rf"{_LETTER}{{0,127}}\*|{_LETTER}{{1,128}}")
MAX_LISTED = 64
EMAIL_CHARACTERS = 254

Rule = Callable[[str, Any], Any]


def name(field: str, value: object, limit: int = 128) -> str:
    """Any printable text of 1 to `limit` characters; control and direction characters are not printable."""
    if not isinstance(value, str):
        raise Invalid.field(field, "must be a text.")
    text = unicodedata.normalize("NFC", value).strip()
    if not text:
        raise Invalid.field(field, "must not be empty.")
    if len(text) > limit:
        raise Invalid.field(field, f"must have at most {limit} characters.")
    if any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for c in text):
        raise Invalid.field(field, "must not contain control or direction characters.")
    return text


def optional_text(field: str, value: object, limit: int = 256) -> str:
    return "" if value in (None, "") else name(field, value, limit)


def email(field: str, value: object) -> str:
    """Nothing, or an address that mail could be sent to."""
    text = optional_text(field, value, EMAIL_CHARACTERS)
    try:
        if text:
            validate_email(text)
    except ValidationError:
        raise Invalid.field(field, "must be an e-mail address.") from None
    return text


def slug(field: str, value: object) -> str:
    if not isinstance(value, str) or not SLUG.fullmatch(value):
        raise Invalid.field(field, "must be 1 to 64 of a-z, 0-9 and inner hyphens.")
    return value


def slug_from(text: str) -> str:
    """A slug made from a name; may be empty when nothing of the name is left."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")[:64].strip("-")


def team(field: str, value: object) -> str:
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or not TEAM.fullmatch(value):
        raise Invalid.field(field, "must be 1 to 64 of A-Z, a-z, 0-9, dot, underscore and hyphen.")
    return value


def flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise Invalid.field(field, "must be true or false.")
    return value


def limit(field: str, value: object, highest: int = MAX_REQUESTS) -> int | None:
    """Null (no limit) or an integer from 1; fractions, also 10.0, booleans and texts are refused, not rounded."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid.field(field, "must be a positive integer or null.")
    if not 1 <= value <= highest:
        raise Invalid.field(field, f"must be between 1 and {highest}.")
    return value


def storable(text: str) -> bool:
    """Whether any database could hold this text, so that it makes sense to look for it: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def one_of(choices: Collection[str]) -> Rule:
    def rule(field: str, value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise Invalid.field(field, f"must be one of {', '.join(sorted(choices))}.")
        return value

    return rule


def some_of(choices: Collection[str], *, nullable: bool) -> Rule:
    def rule(field: str, value: object) -> list[str] | None:
        if value is None and nullable:
            return None
        check = one_of(choices)
        if not isinstance(value, list) or not value or len(value) > MAX_LISTED:
            raise Invalid.field(field, f"must be a list of 1 to {MAX_LISTED} names.")
        return sorted({check(field, item) for item in value})

    return rule


def model_patterns(field: str, value: object) -> list[str] | None:
    """Null (all) or 1 to 64 model names of 1 to 128 characters, each may end in `*`."""
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_LISTED:
        raise Invalid.field(field, f"must be null or a list of 1 to {MAX_LISTED} model names.")
    for item in value:
        if not isinstance(item, str) or not MODEL_PATTERN.fullmatch(item):
            raise Invalid.field(
                field,
                "each must be 1 to 128 characters without spaces; `*` only at the end.",
            )
    return list(dict.fromkeys(value))


def networks(field: str, value: object) -> list[str] | None:
    """Null (anywhere) or 1 to 64 addresses or CIDR blocks."""
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_LISTED:
        raise Invalid.field(
            field, f"must be null or a list of 1 to {MAX_LISTED} addresses or CIDRs."
        )
    try:
        return [str(ipaddress.ip_network(str(item), strict=False)) for item in value]
    except ValueError:
        raise Invalid.field(field, "each must be an IP address or CIDR block.") from None


def moment(field: str, value: object) -> datetime | None:
    """Null or a time with its zone, as a datetime or ISO 8601 text."""
    if value is None:
        return None
    try:
        parsed = parse_datetime(value) if isinstance(value, str) else value
    except ValueError:
        parsed = None
    if not isinstance(parsed, datetime) or parsed.tzinfo is None:
        raise Invalid.field(field, "must be a time like 2026-01-31T12:00:00Z.")
    try:
        return parsed.astimezone(UTC)
    except OverflowError:
        raise Invalid.field(field, "lies outside of the calendar.") from None


def checked(values: Mapping[str, Any], rules: Mapping[str, Rule]) -> dict[str, Any]:
    """Every value by its rule; all faults together, and a field without a rule is one of them."""
    clean: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for field, value in values.items():
        if field not in rules:
            faults[field] = "is not a field of this."
            continue
        try:
            clean[field] = rules[field](field, value)
        except Invalid as fault:
            faults[field] = fault.fields.get(field, fault.message)
    if faults:
        first = next(iter(faults))
        raise Invalid(f"{first}: {faults[first]}", fields=faults)
    return clean
