"""What is set aside: by calls in flight, and by the workers that serve them."""

from typing import Final

from gateway.api.shapes.base import SHAPES, listed
from gateway.openapi.schemas import (
    COUNT,
    ID,
    MAYBE_MOMENT,
    MAYBE_TEXT,
    MOMENT,
    TEXT,
    answer,
    constant,
    one_of,
    shown,
    told,
)
from gateway.shapes.fields import USD

HOLD: Final = SHAPES.add(
    "Hold",
    answer(
        id=told(ID, "It names the call in the log once it has ended."),
        object=constant("hold"),
        created_at=MOMENT,
        age_seconds=COUNT,
        tenant=shown(TEXT, "acme"),
        project=MAYBE_TEXT,
        account=MAYBE_TEXT,
        key_id=ID,
        key_prefix=shown(TEXT, "gwk_a1b2c3d4"),
        team=MAYBE_TEXT,
        model=shown(MAYBE_TEXT, "openai/gpt-5-mini"),
        tokens=told(COUNT, "What it can still use at most."),
        held_usd=told(USD, "What it can still cost at most."),
    ),
)
HOLDS: Final = listed(HOLD)
SLICE: Final = SHAPES.add(
    "HoldSlice",
    answer(
        id=shown(TEXT, "42"),
        object=constant("hold_slice"),
        worker=told(ID, "The id of its journal."),
        level=one_of(("key", "project", "account", "tenant", "model", "provider")),
        level_id=ID,
        unit=one_of(("tokens", "usd")),
        window=shown(TEXT, "2026-01"),
        amount={
            "type": ["integer", "string"],
            "description": "Tokens, or US dollars as a decimal text.",
            "examples": ["0.5"],
        },
        state=told(
            one_of(("lent", "overdue", "written_off")),
            "`overdue`: its worker is late. `written_off`: counted as spent for now.",
        ),
        deadline=MOMENT,
        written_off_at=MAYBE_MOMENT,
    ),
)
SLICES: Final = listed(SLICE)
