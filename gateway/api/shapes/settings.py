"""The house's runtime settings."""

from typing import Final

from gateway.api.shapes.base import SHAPES, listed
from gateway.openapi.schemas import (
    FLAG,
    MAYBE_TEXT,
    TEXT,
    Schema,
    answer,
    changes,
    constant,
    integer,
    one_of,
    shown,
    told,
)
from gateway.shapes.fields import limit
from tenants.setting_services import KNOWN, MOST_DAYS, MOST_SECONDS

_BY_NAME: Final[dict[str, Schema]] = {
    "log_retention_days": limit(MOST_DAYS, "", 90),
    "audit_retention_days": limit(MOST_DAYS, "", 365),
    "session_retention_days": integer(1, MOST_DAYS),
    "content_logging": FLAG,
    "public_signup": {"type": "boolean", "const": False},
    **{name: integer(1, MOST_SECONDS) for name in KNOWN if name.startswith("timeout_")},
}
_TAKEN: Final = {
    name: told(_BY_NAME[name], known.description)
    for name, known in KNOWN.items()
    if known.rule is not None
}
SETTING_CHANGES: Final = SHAPES.add(
    "SettingChanges", changes(**_TAKEN), log_retention_days=90, timeout_total=600
)
SETTING: Final = SHAPES.add(
    "Setting",
    answer(
        object=constant("setting"),
        name=shown(TEXT, "log_retention_days"),
        value={
            "type": ["integer", "number", "boolean", "string", "array", "null"],
            "examples": [90],
        },
        source=one_of(("stored", "default", "environment")),
        locked=shown(told(FLAG, "Whether only the environment can change it."), False),
        variable=shown(told(MAYBE_TEXT, "What it is there."), "GATEHOUSE_RETENTION_DAYS"),
        applies=shown(told(TEXT, "When a change is seen."), "at once"),
        description=TEXT,
    ),
)
SETTINGS: Final = listed(SETTING)
