"""A tenant's people, and what they are invited by."""

from typing import Final

from gateway.api.shapes.base import SHAPES, listed
from gateway.api.shapes.fields import EMAIL, TENANT
from gateway.api.shapes.staff import MADE_PASSWORD, NEW_PASSWORD
from gateway.openapi.schemas import (
    COUNT,
    FLAG,
    ID,
    MAYBE_MOMENT,
    MAYBE_TEXT,
    MOMENT,
    TEXT,
    Schema,
    answer,
    changes,
    constant,
    integer,
    maybe,
    members,
    one_of,
    request,
    shown,
    told,
)
from gateway.shapes.fields import WHO, named
from tenants import invitation_services, roles

ROLE: Final = told(
    one_of(roles.MEMBER_ORDER), "An owner changes what is the tenant's; a member reads it."
)


def _one_of_two(**members: Schema) -> Schema:
    """Somebody new, who has a name; or somebody who is there already, and has all else."""
    of_new = ("username", "email", "password")
    return {
        **request(**members),
        "anyOf": [
            {"required": ["username"], "properties": {"user": False}},
            {"required": ["user"], "properties": dict.fromkeys(of_new, False)},
        ],
    }


NEW_MEMBER: Final = SHAPES.add(
    "NewMember",
    _one_of_two(
        username=shown(named(), "ada"),
        email=EMAIL,
        role=ROLE,
        password=NEW_PASSWORD,
        user=told(
            {**ID, "format": "person"},
            "Of somebody who is there already; with a role alone. For staff of the house.",
        ),
    ),
    username="ada",
    role="member",
)
MEMBER_CHANGES: Final = SHAPES.add("MemberChanges", changes(role=ROLE), role="owner")
_MEMBER: Final[dict[str, Schema]] = {
    "id": ID,
    "object": constant("member"),
    "tenant": told(ID, "The id of the tenant."),
    "user": told(ID, "The id of the person."),
    "username": shown(TEXT, "ada"),
    "email": shown(MAYBE_TEXT, "ada@acme.example"),
    "role": ROLE,
    "is_active": FLAG,
    "last_login": MAYBE_MOMENT,
    "created_at": told(MOMENT, "Since when they have the place."),
}
MEMBER: Final = SHAPES.add("Member", answer(**_MEMBER))
MEMBERS: Final = listed(MEMBER)
MADE_MEMBER: Final = SHAPES.add("MadeMember", members(_MEMBER, **_MEMBER, password=MADE_PASSWORD))

NEW_INVITATION: Final = SHAPES.add(
    "NewInvitation",
    request(
        ("tenant",),
        tenant=TENANT,
        role=ROLE,
        email=told(EMAIL, "Becomes that of who accepts it and is new."),
        max_uses=told(integer(1, invitation_services.MOST_USES), "1 unless given."),
        expires_at=told(maybe(MOMENT), "Within 90 days; null: in a week."),
    ),
    tenant="acme",
    role="member",
    max_uses=5,
)
_INVITATION: Final[dict[str, Schema]] = {
    "id": ID,
    "object": constant("invitation"),
    "tenant": told(ID, "The id of the tenant."),
    "role": ROLE,
    "email": shown(MAYBE_TEXT, "ada@acme.example"),
    "max_uses": shown(COUNT, 5),
    "uses": shown(COUNT, 0),
    "status": one_of(("active", "exhausted", "expired", "revoked")),
    "created_by": WHO,
    "created_at": MOMENT,
    "expires_at": MOMENT,
    "revoked_at": MAYBE_MOMENT,
}
INVITATION: Final = SHAPES.add("Invitation", answer(**_INVITATION))
INVITATIONS: Final = listed(INVITATION)
INVITED: Final = SHAPES.add(
    "MadeInvitation",
    answer(**_INVITATION, token=told(TEXT, "The secret; this is the only sight of it.")),
)
