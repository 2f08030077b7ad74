"""Calls: their log rows, why each went as it did, and what was said."""

from typing import Final

from gateway.api.shapes.base import SHAPES, listed
from gateway.openapi.schemas import (
    ID,
    MAYBE_ID,
    TEXT,
    Schema,
    answer,
    array,
    constant,
    members,
    one_of,
    shown,
    told,
)
from gateway.shapes.calls import ATTEMPT_FIELDS, REQUEST_ID, call_fields, card_fields

LOG: Final = SHAPES.add("LogRow", answer(**call_fields("log")))
LOGS: Final = listed(LOG)

#: What a tenant's people do not see of a call of theirs.
_HOUSE_IDS: Final = frozenset({"tenant_id", "provider_id"})
_CARD: Final[dict[str, Schema]] = {
    **call_fields("why_card"),
    "tenant_id": told(ID, "Only for the house."),
    "provider_id": told(MAYBE_ID, "Only for the house."),
    **card_fields(members(ATTEMPT_FIELDS, provider_id=MAYBE_ID, **ATTEMPT_FIELDS)),
}
WHY_CARD: Final = SHAPES.add("WhyCard", members(_CARD.keys() - _HOUSE_IDS, **_CARD))
_ENCODING: Final = one_of(("text", "base64"))
CONTENT: Final = SHAPES.add(
    "LogContent",
    answer(
        id=ID,
        object=constant("log_content"),
        request_id=REQUEST_ID,
        request=shown(TEXT, '{"model":"openai/gpt-5-mini"}'),
        request_encoding=_ENCODING,
        response=shown(TEXT, '{"id":"chatcmpl-1"}'),
        response_encoding=_ENCODING,
        truncated=told(
            shown(array(one_of(("request", "response"))), []),
            "Those that were longer than what is kept.",
        ),
    ),
)
