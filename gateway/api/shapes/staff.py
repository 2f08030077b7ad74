"""Operators, open sessions, service tokens."""

from typing import Final

from gateway.api.shapes import people
from gateway.api.shapes.base import SHAPES, listed
from gateway.api.shapes.fields import EMAIL
from gateway.openapi.schemas import (
    FLAG,
    ID,
    MAYBE_MOMENT,
    MAYBE_TEXT,
    MOMENT,
    TEXT,
    Schema,
    answer,
    array,
    changes,
    constant,
    maybe,
    members,
    one_of,
    request,
    shown,
    told,
)
from gateway.shapes.fields import WHO, named, some_of
from tenants import operator_services, roles, service_tokens

ROLE: Final = one_of(roles.ORDER)
#: Of somebody who is made; and as it is told, once.
NEW_PASSWORD: Final = told(maybe(people.NEW_PASSWORD), "Null: one is made, and told once.")
MADE_PASSWORD: Final = told(TEXT, "One that was made here; this is the only sight of it.")
_CHANGED: Final[dict[str, Schema]] = {
    "username": shown(named(), "ada"),
    "email": EMAIL,
    "role": ROLE,
    "is_active": told(FLAG, "False: locked out at once, until it is true again."),
    "password": told(people.NEW_PASSWORD, "To be changed at the next sign-in."),
}
NEW_OPERATOR: Final = SHAPES.add(
    "NewOperator",
    request(
        ("username",),
        **{name: _CHANGED[name] for name in operator_services.RULES},
        password=NEW_PASSWORD,
    ),
    username="ada",
    role="viewer",
    email="ada@acme.example",
)
OPERATOR_CHANGES: Final = SHAPES.add(
    "OperatorChanges",
    changes(**{name: _CHANGED[name] for name in operator_services.EDIT_RULES}),
    role="auditor",
)
_OPERATOR: Final[dict[str, Schema]] = {
    "id": ID,
    "object": constant("operator"),
    "username": shown(TEXT, "ada"),
    "email": shown(MAYBE_TEXT, "ada@acme.example"),
    "role": ROLE,
    "is_active": FLAG,
    "must_change_password": told(FLAG, "Until then nothing else works for them."),
    "last_login": MAYBE_MOMENT,
    "created_at": MOMENT,
}
OPERATOR: Final = SHAPES.add("Operator", answer(**_OPERATOR))
OPERATORS: Final = listed(OPERATOR)
MADE_OPERATOR: Final = SHAPES.add(
    "MadeOperator", members(_OPERATOR, **_OPERATOR, password=MADE_PASSWORD)
)

SESSIONS: Final = listed(
    SHAPES.add(
        "Session",
        answer(
            id=ID,
            object=constant("session"),
            operator=told(ID, "The id of the person."),
            username=shown(TEXT, "ada"),
            door=told(one_of(("api", "console")), "What it was opened for."),
            current=told(FLAG, "Whether this was asked with it."),
            address=shown(MAYBE_TEXT, "192.0.2.7"),
            user_agent=MAYBE_TEXT,
            created_at=MOMENT,
            expires_at=MOMENT,
            idle_ends_at=told(MAYBE_MOMENT, "When it ends if nobody uses it."),
        ),
    )
)

_SCOPES: Final = shown(some_of(service_tokens.SCOPES), ["read"])
NEW_TOKEN: Final = SHAPES.add(
    "NewServiceToken",
    request(
        ("name",),
        name=shown(named(), "nightly report"),
        scopes=told(_SCOPES, "What it can do, of what your role allows; `read` unless given."),
        expires_at=told(maybe(MOMENT), "Null: it does not end by itself."),
    ),
    name="nightly report",
    scopes=["read"],
)
_TOKEN: Final[dict[str, Schema]] = {
    "id": ID,
    "object": constant("service_token"),
    "name": shown(TEXT, "nightly report"),
    "scopes": shown(array(TEXT), ["read"]),
    "prefix": told(shown(TEXT, "gwa_AbCdEf"), "What can be seen of it for good."),
    "created_by": WHO,
    "created_at": MOMENT,
    "expires_at": MAYBE_MOMENT,
    "last_used_at": told(MAYBE_MOMENT, "To the minute."),
    "revoked_at": MAYBE_MOMENT,
}
TOKEN: Final = SHAPES.add("ServiceToken", answer(**_TOKEN))
TOKENS: Final = listed(TOKEN)
ISSUED_TOKEN: Final = SHAPES.add(
    "IssuedServiceToken",
    answer(**_TOKEN, token=told(TEXT, "The credential; this is the only sight of it.")),
)
