"""Members that many bodies of the admin API alone have, by the rules in tenants/validation.py."""

from typing import Final

from gateway.openapi.schemas import ID, TEXT, Schema, array, fitting, maybe, shown, told
from gateway.shapes.fields import named
from tenants import validation


def optional_text(longest: int = 256) -> Schema:
    """What `validation.optional_text` takes; null and the empty text are none."""
    return maybe(named(longest, least=0))


EMAIL: Final = shown(
    maybe({**TEXT, "format": "email", "maxLength": validation.EMAIL_CHARACTERS}), "ada@acme.example"
)
SLUG: Final = shown(fitting(validation.SLUG.pattern), "acme")
#: Of a body or a query that names a tenant.
TENANT: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "format": "tenant",
    "description": "The id or the slug of a tenant.",
    "examples": ["acme"],
}
GRANTED: Final[Schema] = {
    **maybe(array(TENANT, most=validation.MAX_LISTED)),
    "description": "Ids or slugs of the tenants that may use it, for what is shared; null: all.",
    "examples": [None],
}
GRANTED_TOLD: Final = told(maybe(array(ID)), "Ids of the tenants that may use it; null: all.")
KEY_FILTER: Final[dict[str, Schema]] = {"key": told(TEXT, "The id or the prefix of a key.")}
