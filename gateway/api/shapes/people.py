"""Signing in, and who one is."""

from typing import Final

from django.conf import settings

from gateway.api.shapes.base import SHAPES
from gateway.openapi.schemas import (
    COUNT,
    FLAG,
    ID,
    MAYBE_MOMENT,
    MAYBE_TEXT,
    MOMENT,
    TEXT,
    answer,
    array,
    constant,
    maybe,
    one_of,
    request,
    shown,
    text,
    told,
)
from gateway.shapes.fields import named
from tenants import roles

#: Of a password or a name to sign in with; what a new password has to be is told by its refusal.
MAX_CHARACTERS: Final = 1024
_TYPED: Final = text(1, MAX_CHARACTERS)
#: A common one, or one that looks like the name, is refused as well.
NEW_PASSWORD: Final = {
    **text(settings.SHORTEST_PASSWORD, MAX_CHARACTERS),
    "format": "password",
}

SIGN_IN: Final = SHAPES.add(
    "SignIn",
    request(("username", "password"), username=_TYPED, password=_TYPED),
    username="ada",
    password="a lamp in every window",
)
SIGNED_IN: Final = SHAPES.add(
    "SignedIn",
    answer(
        token=shown(told(TEXT, "To be sent as `Authorization: Bearer`."), "eyJhbGciOi…"),
        token_type=constant("Bearer"),
        expires_at=told(MOMENT, "Eight hours from now."),
        username=shown(TEXT, "ada"),
        must_change_password=shown(
            told(FLAG, "Until then nothing but `auth/change-password` works."), False
        ),
    ),
)
PASSWORD_CHANGE: Final = SHAPES.add(
    "PasswordChange",
    request(
        ("current_password", "new_password"), current_password=_TYPED, new_password=NEW_PASSWORD
    ),
    current_password="a lamp in every window",
    new_password="a window in every house",
)
ACCEPTANCE: Final = SHAPES.add(
    "Acceptance",
    request(
        ("token", "username", "password"), token=_TYPED, username=named(), password=NEW_PASSWORD
    ),
    token="QmVob2xkLCBhIHNlY3JldCB0aGF0IGlzIHNlZW4gb25jZQ",
    username="ada",
    password="a lamp in every window",
)
ENDED: Final = SHAPES.add(
    "EndedSessions", answer(ended_sessions=told(COUNT, "How many there were."))
)
ME: Final = SHAPES.add(
    "Me",
    answer(
        id=ID,
        object=one_of(("operator", "member")),
        username=shown(TEXT, "ada"),
        email=shown(MAYBE_TEXT, "ada@acme.example"),
        role=told(maybe(one_of(roles.ORDER)), "On the house's staff; null for others."),
        is_active=FLAG,
        must_change_password=shown(FLAG, False),
        last_login=shown(MAYBE_MOMENT, MOMENT["examples"][0]),
        created_at=MOMENT,
        memberships=told(
            array(answer(tenant=ID, role=one_of(sorted(roles.MEMBERS)))), "Places in tenants."
        ),
        session=answer(id=ID, expires_at=MOMENT),
    ),
)
