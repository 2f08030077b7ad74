"""What an import of a backup did, or would do."""

from typing import Final

from gateway.api.documented import Lines
from gateway.api.shapes.base import SHAPES
from gateway.backup.lines import FORMAT, VERSION
from gateway.backup.services import ON_CONFLICT
from gateway.openapi.schemas import (
    COUNT,
    FLAG,
    MAYBE_ID,
    MOMENT,
    TEXT,
    Schema,
    answer,
    array,
    one_of,
    shown,
    told,
)

MEDIA_TYPE: Final = "application/jsonl"
FILE: Final = Lines(
    MEDIA_TYPE,
    f'{{"format":"{FORMAT}","version":{VERSION},"keks":["0f1e2d3c4b5a6978"]}}\n',
    "backup",
)
_TABLES: Final[Schema] = {
    "type": "object",
    "additionalProperties": answer(
        rows=told(COUNT, "In the backup."),
        new=told(COUNT, "That come."),
        existing=told(COUNT, "That stay as they are here."),
        conflicts=told(COUNT, "Whose name is taken here."),
        left_out=told(COUNT, "That stay in the backup."),
    ),
    "examples": [
        {"tenants.tenant": {"rows": 2, "new": 2, "existing": 0, "conflicts": 0, "left_out": 0}}
    ],
}
OUTCOME: Final = SHAPES.add(
    "BackupImport",
    answer(
        object=one_of(("backup_import", "backup_preview")),
        created_at=told(MOMENT, "When the backup was made."),
        product=shown(told(TEXT, "The release that made it."), "0.1.0"),
        tenant=told(MAYBE_ID, "Whose alone it is."),
        with_logs=shown(FLAG, False),
        remap_ids=shown(FLAG, False),
        on_conflict=one_of(ON_CONFLICT),
        possible=told(FLAG, "Whether it was, or would be, carried out like this."),
        refusals=shown(told(array(TEXT), "Why not."), []),
        master_key=told(FLAG, "Whether the master key of the backup is here."),
        unreadable=told(shown(COUNT, 0), "Sealed values that cannot be opened here."),
        tables=_TABLES,
        conflicts=shown(array(answer(table=TEXT, name=TEXT)), []),
        warnings=shown(array(TEXT), []),
    ),
)
