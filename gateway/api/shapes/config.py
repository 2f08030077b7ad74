"""The configuration as a file."""

from typing import Any, Final

from gateway.api.shapes.base import SHAPES, listed
from gateway.config_file.yaml_text import MAX_BYTES
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
    array,
    constant,
    integer,
    maybe,
    one_of,
    request,
    shown,
    told,
)

MOST_REVISIONS: Final = 10**9
_EXAMPLE: Final = "version: 1\ntenants:\n  - name: Acme\n    slug: acme\n"
_DOCUMENT: Final = {
    **told(TEXT, "The YAML text of a configuration file."),
    "maxLength": MAX_BYTES,
    "format": "config",
}
_PRUNE: Final = told(
    {**FLAG, "default": False}, "Whether what the file had and has no more is taken away."
)
_REVISION: Final = told(COUNT, "The number of the one in force; 0: none is.")

PLAN_ASKED: Final = SHAPES.add(
    "ConfigPlanAsked", request(("document",), document=_DOCUMENT, prune=_PRUNE), document=_EXAMPLE
)
APPLY_ASKED: Final = SHAPES.add(
    "ConfigApplyAsked",
    request(
        ("document",),
        document=_DOCUMENT,
        prune=_PRUNE,
        base_revision=told(
            maybe(integer(0, MOST_REVISIONS)), "Refused if another one is in force by then."
        ),
    ),
    document=_EXAMPLE,
    base_revision=3,
)
ROLLBACK_ASKED: Final = SHAPES.add(
    "ConfigRollbackAsked",
    request(
        revision=told(maybe(integer(0, MOST_REVISIONS)), "Refused if another one is in force.")
    ),
    revision=4,
)
_THING: Final[dict[str, Schema]] = {
    "kind": shown(TEXT, "tenant"),
    "tenant": MAYBE_TEXT,
    "name": shown(TEXT, "acme"),
}
_ANY: Final[Schema] = {"type": ["string", "number", "boolean", "object", "array", "null"]}
_CHANGES: Final[Schema] = {
    "type": "object",
    "additionalProperties": answer(**{"from": _ANY, "to": _ANY}),
    "examples": [{"name": {"from": None, "to": "Acme"}}],
}
_COUNTS: Final = answer(
    create=COUNT, update=COUNT, delete=COUNT, unchanged=COUNT, adopted=COUNT, orphans=COUNT
)
_WARNINGS: Final = shown(array(TEXT), [])
_PLAN: Final[dict[str, Any]] = {
    "object": constant("config_plan"),
    "revision": _REVISION,
    "is_empty": shown(FLAG, False),
    "counts": _COUNTS,
    "changes": array(
        answer(action=one_of(("create", "update", "delete")), **_THING, changes=_CHANGES)
    ),
    "adopted": told(
        shown(array(answer(**_THING)), []), "What was there before it was in the file."
    ),
    "orphans": told(shown(array(answer(**_THING)), []), "What the file had and has no more."),
    "warnings": _WARNINGS,
}
PLAN: Final = SHAPES.add("ConfigPlan", answer(**_PLAN))
APPLIED: Final = SHAPES.add(
    "ConfigApplied",
    answer(
        **{
            **_PLAN,
            "object": constant("config_applied"),
            "is_new": told(FLAG, "Whether there was anything to do."),
            "keys": told(
                array(
                    answer(
                        tenant=shown(TEXT, "acme"),
                        name=shown(TEXT, "Search"),
                        key=shown(TEXT, "gwk_a1b2c3d4…"),
                    )
                ),
                "The keys that were made. Their secrets are shown this once.",
            ),
        }
    ),
)
ROLLED_BACK: Final = SHAPES.add(
    "ConfigRolledBack",
    answer(
        object=constant("config_rolled_back"),
        rolled_back=COUNT,
        revision=_REVISION,
        warnings=_WARNINGS,
    ),
)
REVISION: Final = SHAPES.add(
    "ConfigRevision",
    answer(
        id=ID,
        object=constant("config_revision"),
        revision=COUNT,
        digest=shown(TEXT, "9f86d081884c7d659a2feaa0c55ad015"),
        counts={"type": "object", "additionalProperties": COUNT, "examples": [{"create": 1}]},
        actor=answer(
            type=shown(TEXT, "operator"),
            id=shown(TEXT, ID["examples"][0]),
            label=shown(TEXT, "ada"),
        ),
        applied_at=MOMENT,
        rolled_back_at=MAYBE_MOMENT,
        rolled_back_by=MAYBE_TEXT,
        can_be_rolled_back=FLAG,
    ),
)
REVISIONS: Final = listed(REVISION)
EXPORT: Final = SHAPES.add(
    "ConfigDocument",
    answer(object=constant("config_document"), document=shown(TEXT, _EXAMPLE)),
)
