"""Keys, managed by one of them."""

from typing import Final

from gateway.openapi.schemas import ID, MAYBE_TEXT, TEXT, answer, changes, request, shown, told
from gateway.shapes import keys
from gateway.shapes.pages import page_of
from gateway.views.shapes.base import SHAPES
from keys.models import APIKey

_WHO: Final = told(
    answer(
        type=shown(TEXT, "key"),
        id=shown(MAYBE_TEXT, ID["examples"][0]),
        label=shown(MAYBE_TEXT, "Deployment"),
    ),
    "Who did it; staff of the house have no name here.",
)
NEW_KEY: Final = SHAPES.add(
    "NewKey",
    request(
        ("name",),
        **{
            **keys.ISSUED_WITH,
            "project": told(
                keys.ISSUED_WITH["project"],
                "The id of a project; this key's own, if it has one.",
            ),
            "account": told(
                keys.ISSUED_WITH["account"],
                "The id of who pays; this key's own, if it has one.",
            ),
        },
    ),
    name="the mobile app",
    allowed_models=["gpt-*"],
    rate_limit_rpm=60,
)
KEY_CHANGE: Final = SHAPES.add("KeyChange", changes(**keys.CHANGED), is_active=False)
ROTATION: Final = SHAPES.add("Rotation", keys.ROTATION, grace_period_seconds=3600)
_KEY: Final = {
    **keys.key_fields(_WHO),
    "source": shown(keys.TOLD["source"], APIKey.Source.SELF_SERVICE.value),
}
KEY: Final = SHAPES.add("Key", answer(**_KEY))
KEYS: Final = SHAPES.add("Keys", page_of(KEY.ref))
ISSUED: Final = SHAPES.add("IssuedKey", keys.issued(_KEY))
