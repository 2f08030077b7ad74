"""Keys that another gateway made, taken over by the SHA-256 of their text: they open the door here until they are rotated.

What was taken over once is remembered for good (`ImportedKey`), so a second import adds nothing and revives nothing.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from keys import tokens
from keys.models import APIKey, ImportedKey, KeySecret
from keys.services import ISSUE_RULES, pepper
from tenants import validation
from tenants.changes import Change
from tenants.errors import Invalid
from tenants.models import Tenant
from tenants.validation import Rule

#: What a key may be taken over with; where it belongs is told by rows, not by these.
RULES: Final[dict[str, Rule]] = {
    **{name: rule for name, rule in ISSUE_RULES.items() if name not in {"project", "account"}},
    "is_active": validation.flag,
}
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_SHOWN_OF_HASH: Final = 8
_SHOWN_CHARACTERS: Final = 16
#: Rows of one statement.
_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A key as another gateway had it. `shown`: what may be seen of it for good. `values` are clean (`checked`), with `project`
    and `account` as rows.
    """

    sha256: bytes
    shown: str
    values: Mapping[str, Any]


def read_sha256(field: str, value: object) -> bytes:
    """The digest that 64 hexadecimal digits stand for."""
    if not isinstance(value, str) or _HEX.fullmatch(value.strip()) is None:
        raise Invalid.field(field, "must be a SHA-256 in 64 hexadecimal digits.")
    return bytes.fromhex(value.strip())


def checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """By the rules that a key is issued by."""
    return validation.checked(fields, RULES)


def shown_part(sha256: bytes, known: str = "") -> str:
    """What the other gateway showed of it, if that is short enough to be no secret; else the hash's first digits."""
    if 0 < len(known) <= _SHOWN_CHARACTERS and known.isascii() and known.isprintable():
        return known
    return f"sha256:{sha256.hex()[:_SHOWN_OF_HASH]}"


def taken_over_before(hashes: Collection[bytes]) -> dict[bytes, bool]:
    """Of these SHA-256 those that came here once, and whether they still are what their keys go by: else the key was rotated,
    revoked or deleted since.
    """
    _, pepper_key = pepper()
    names = {tokens.imported_fingerprint(pepper_key, each): each for each in hashes}
    found = {}
    for chunk in _chunks(list(names)):
        marks = ImportedKey.objects.filter(fingerprint__in=chunk)
        found.update(
            {names[bytes(each)]: False for each in marks.values_list("fingerprint", flat=True)}
        )
        current = KeySecret.objects.filter(
            fingerprint__in=chunk, not_after=None, key__revoked_at=None
        )
        found.update(
            {names[bytes(each)]: True for each in current.values_list("fingerprint", flat=True)}
        )
    return found


def take_over(it: Change, tenant: Tenant, keys: Sequence[TakenOver]) -> list[APIKey]:
    """Make these keys, none of which may have come here before, inside somebody's change. In their order."""
    version, pepper_key = pepper()
    actor = it.entry.actor
    rows, secrets, marks = [], [], []
    for each in keys:
        key = APIKey(
            tenant=tenant,
            source=APIKey.Source.IMPORT,
            created_by_type=actor.type,
            created_by_id=actor.id,
            created_by_label=actor.label,
            **each.values,
        )
        fingerprint = tokens.imported_fingerprint(pepper_key, each.sha256)
        rows.append(key)
        secrets.append(
            KeySecret(key=key, fingerprint=fingerprint, pepper_version=version, prefix=each.shown)
        )
        marks.append(ImportedKey(tenant=tenant, fingerprint=fingerprint, key_id=key.id))
    APIKey.objects.bulk_create(rows, _CHUNK)
    KeySecret.objects.bulk_create(secrets, _CHUNK)
    ImportedKey.objects.bulk_create(marks, _CHUNK)
    # Once for all of them: it makes workers forget whom they did not know.
    it.touch("tenant", tenant.id, tenant.id)
    return rows


def _chunks(names: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (names[at : at + _CHUNK] for at in range(0, len(names), _CHUNK))
