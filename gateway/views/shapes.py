"""What goes over the wire, as JSON Schema: for the OpenAPI document. The names that Gatehouse reads or answers are spelt out;
what it passes on is left open, because the provider decides about it.
"""

from typing import Any, Final

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_MAYBE_TEXT: Final[Schema] = {"type": ["string", "null"]}
_MAYBE_COUNT: Final[Schema] = {"type": ["integer", "null"]}
_MAYBE_MS: Final[Schema] = {"type": ["number", "null"], "description": "Milliseconds."}
_USD: Final[Schema] = {
    "type": ["string", "null"],
    "description": "US dollars as a decimal string; null where no price is known.",
    "examples": ["0.000014"],
}


def _object(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _told(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def _list_of(item: Schema, **more: Schema) -> Schema:
    kind = {"type": "string", "const": "list"}
    listed = {"type": "array", "items": item}
    return _object(("object", "data", *more), object=kind, data=listed, **more)


def reference(name: str) -> Schema:
    """A schema of the document's own components."""
    return {"$ref": f"#/components/schemas/{name}"}


# --- requests ---------------------------------------------------------------------------------------------------------

_MODEL: Final = _told(_TEXT, "The public name of a model that this key may call.")
_STREAM: Final = {
    "stream": _told(_FLAG, "Answer in server-sent events."),
    "stream_options": _told(
        _object(include_usage=_FLAG), "With `include_usage` the last event carries the usage."
    ),
}
_CAP: Final = {"type": "integer", "minimum": 1, "description": "The most tokens of the answer."}
_CHOICES: Final = {
    "type": "integer",
    "minimum": 1,
    "maximum": 128,
    "default": 1,
    "description": "How many answers are wanted.",
}
_MESSAGE: Final = _object(
    ("role",),
    role=_told(_TEXT, "`system`, `developer`, `user`, `assistant` or `tool`."),
    content={"type": ["string", "array", "null"], "description": "A text, or a list of parts."},
)
_TEXTS: Final[Schema] = {
    "type": ["string", "array"],
    "description": "A text, a list of texts, or tokens.",
}

CHAT_REQUEST: Final = _object(
    ("model", "messages"),
    model=_MODEL,
    messages={
        "type": "array",
        "minItems": 1,
        "items": _MESSAGE,
        "description": "The conversation so far.",
    },
    **_STREAM,
    max_completion_tokens=_CAP,
    max_tokens=_told(_CAP, "The same, by its older name."),
    n=_CHOICES,
    tools={
        "type": "array",
        "items": {"type": "object"},
        "description": "Functions that the model may ask for.",
    },
)
COMPLETION_REQUEST: Final = _object(
    ("model", "prompt"), model=_MODEL, prompt=_TEXTS, **_STREAM, max_tokens=_CAP, n=_CHOICES
)
EMBEDDING_REQUEST: Final = _object(
    ("model", "input"),
    model=_MODEL,
    input=_TEXTS,
    encoding_format={"type": "string", "enum": ["float", "base64"], "default": "float"},
)

# --- answers ----------------------------------------------------------------------------------------------------------

_USAGE: Final = _object(prompt_tokens=_COUNT, completion_tokens=_COUNT, total_tokens=_COUNT)
_ANSWER: Final = {
    "id": _told(_TEXT, "The provider's name for it."),
    "object": _told(_TEXT, "What kind of answer it is."),
    "created": _told(_COUNT, "Seconds since 1970."),
    "model": _told(_TEXT, "What the provider calls the model."),
    "usage": _told(_USAGE, "Tokens, as the provider counts them."),
}
_CHAT_CHOICE: Final = _object(index=_COUNT, message=_MESSAGE, finish_reason=_MAYBE_TEXT)
_TEXT_CHOICE: Final = _object(index=_COUNT, text=_TEXT, finish_reason=_MAYBE_TEXT)

CHAT_ANSWER: Final = _object(**_ANSWER, choices={"type": "array", "items": _CHAT_CHOICE})
COMPLETION_ANSWER: Final = _object(**_ANSWER, choices={"type": "array", "items": _TEXT_CHOICE})
_VECTOR: Final = _object(object=_TEXT, index=_COUNT, embedding={"type": ["array", "string"]})
EMBEDDING_ANSWER: Final = _list_of(_VECTOR, model=_TEXT, usage=_USAGE)

MODEL: Final = _object(
    ("id", "object", "created", "owned_by"),
    id=_TEXT,
    object={"type": "string", "const": "model"},
    created=_told(_COUNT, "Seconds since 1970."),
    owned_by=_TEXT,
)
MODELS: Final = _list_of(reference("Model"))

ERROR: Final = _object(
    ("error",),
    error=_object(
        ("message", "type", "param", "code"),
        message=_told(_TEXT, "One sentence for whoever reads it."),
        type=_TEXT,
        param=_told(_MAYBE_TEXT, "Which part of the request is meant."),
        code=_told(_MAYBE_TEXT, "What programs decide by."),
    ),
)

# --- a key's own state ------------------------------------------------------------------------------------------------

_LIMITS: Final = _told(
    _object(
        rate_limits=_told(
            {"type": ["array", "null"], "items": _TEXT, "maxItems": 8},
            "Further windows of requests, `count/period` with the periods `s`, `m`, `h`, `d`.",
        ),
        rate_limit_rpm=_told(_MAYBE_COUNT, "Requests in any 60 seconds."),
        daily_limit=_told(_MAYBE_COUNT, "Requests in a UTC day."),
        burst=_told(_MAYBE_COUNT, "Requests that may come together."),
        rate_limit_tpm=_told(_MAYBE_COUNT, "Tokens in any 60 seconds."),
        max_concurrency=_told(_MAYBE_COUNT, "Calls at once."),
        tokens_budget=_told(_MAYBE_COUNT, "Tokens in a calendar month, UTC."),
        tokens_budget_day=_told(_MAYBE_COUNT, "Tokens in a UTC day."),
        tokens_budget_total=_told(_MAYBE_COUNT, "Tokens in all."),
        cost_budget_usd=_told(_MAYBE_TEXT, "US dollars in a calendar month, UTC."),
        cost_budget_day_usd=_told(_MAYBE_TEXT, "US dollars in a UTC day."),
        cost_budget_total_usd=_told(_MAYBE_TEXT, "US dollars in all."),
        clamp_to_budget=_told(_FLAG, "Whether an answer is shortened to what the budgets leave."),
    ),
    "Each limit by its name; null where there is none.",
)
_SPENT: Final = _object(
    requests=_COUNT,
    tokens_in=_COUNT,
    tokens_out=_COUNT,
    tokens_total=_COUNT,
    cost_usd=_USD,
    unpriced_requests=_told(_COUNT, "Calls that `cost_usd` leaves out, as they had no price."),
)
_MOMENT: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_NAMES: Final[Schema] = {"type": ["array", "null"], "items": _TEXT}

_AMOUNT: Final[Schema] = {
    "type": ["integer", "string", "null"],
    "description": "Tokens, or US dollars as a decimal string.",
}
_BUDGET: Final = _object(
    level=_told(_TEXT, "Whose it is: `key`, `project`, `account` or `tenant`."),
    unit=_told(_TEXT, "`tokens` or `usd`."),
    window=_told(_TEXT, "`day` or `month` (UTC), `total`, or `prepaid` for an account's balance."),
    limit=_AMOUNT,
    spent=_told(_AMOUNT, "Null for what the key shares with others."),
    held=_told(_AMOUNT, "Set aside for calls in flight; null for what the key shares with others."),
    remaining=_AMOUNT,
    resets_at=_told(_MOMENT, "Null: never."),
)

KEY_STATE: Final = _object(
    ("id", "object", "limits", "spent", "held", "remaining", "reset_at"),
    id=_TEXT,
    object={"type": "string", "const": "key_state"},
    key_prefix=_TEXT,
    name=_TEXT,
    tenant=_TEXT,
    project=_MAYBE_TEXT,
    account=_MAYBE_TEXT,
    team=_MAYBE_TEXT,
    scopes={"type": "array", "items": _TEXT},
    allowed_models=_NAMES,
    allowed_capabilities=_NAMES,
    expires_at=_MOMENT,
    limits=_LIMITS,
    tenant_limits=_LIMITS,
    period=_told(_TEXT, "The running month, `YYYY-MM` in UTC."),
    spent=_SPENT,
    held=_told(_object(tokens=_COUNT, cost_usd=_USD), "What calls in flight may still use."),
    remaining=_told(
        _object(tokens=_MAYBE_COUNT, cost_usd=_USD),
        "Of the budget with the least left; null where there is none.",
    ),
    budgets={"type": "array", "items": _BUDGET},
    reset_at=_told(_MOMENT, "When the period ends."),
)
TRACE: Final = _object(
    ("id", "object", "request_id", "created_at", "status"),
    id=_told(_TEXT, "Ours; it names one call."),
    object={"type": "string", "const": "trace"},
    request_id=_told(_TEXT, "What the answer's `x-request-id` said."),
    created_at=_MOMENT,
    kind=_TEXT,
    tenant=_TEXT,
    project=_MAYBE_TEXT,
    account=_MAYBE_TEXT,
    key_id=_TEXT,
    key_prefix=_TEXT,
    team=_MAYBE_TEXT,
    model=_MAYBE_TEXT,
    provider=_MAYBE_TEXT,
    target=_MAYBE_TEXT,
    dialect_in=_TEXT,
    dialect_out=_MAYBE_TEXT,
    stream=_FLAG,
    status=_COUNT,
    error_code=_MAYBE_TEXT,
    dispatched=_told(_TEXT, "Whether a provider was asked: `yes`, `no` or `unknown`."),
    attempts=_COUNT,
    tokens_in=_COUNT,
    tokens_cached=_COUNT,
    tokens_out=_COUNT,
    tokens_reasoning=_COUNT,
    cost_usd=_USD,
    cost_estimate_usd=_told(_USD, "Where `cost_usd` is null: at the default price. Not charged."),
    usage_source=_told(_TEXT, "Whose figures these are: `provider`, `estimated` or `none`."),
    duration_ms=_MAYBE_MS,
    ttfb_ms=_MAYBE_MS,
    overhead_ms=_MAYBE_MS,
    idempotent_replay=_FLAG,
    trace_id=_told(_MAYBE_TEXT, "Of the `traceparent` that the call came with."),
)
_PAGES: Final[dict[str, Schema]] = {
    "has_more": _FLAG,
    "next_cursor": _MAYBE_TEXT,
    "total": _MAYBE_COUNT,
}
TRACES: Final = _list_of(reference("Trace"), **_PAGES)

_CHECK: Final = _object(
    check=_told(_TEXT, "What was asked."),
    outcome=_told(_TEXT, "`passed`, `refused` or `not asked`."),
    sentence=_told(_TEXT, "What a yes to it means."),
)
_LIMIT: Final = _object(
    level=_TEXT, what=_TEXT, unit=_TEXT, limit=_AMOUNT, before=_AMOUNT, after=_AMOUNT
)
_ATTEMPT: Final = _object(
    n=_COUNT,
    started_at=_MOMENT,
    provider=_TEXT,
    target=_TEXT,
    dialect_out=_TEXT,
    outcome=_TEXT,
    status=_MAYBE_COUNT,
    duration_ms=_MAYBE_MS,
    ttfb_ms=_MAYBE_MS,
)
_LINE: Final = _object(
    line=_COUNT,
    month=_TEXT,
    created_at=_MOMENT,
    model=_TEXT,
    tokens_in={"type": "integer"},
    tokens_cached={"type": "integer"},
    tokens_out={"type": "integer"},
    tokens_reasoning={"type": "integer"},
    cost_usd=_USD,
    price_id=_MAYBE_TEXT,
    usage_source=_TEXT,
    dispatched=_TEXT,
    overrun=_told(_FLAG, "The provider reported more than the call could use."),
    reason=_told(_MAYBE_TEXT, "Why a correction was made."),
)
TRACE_CARD: Final = _object(
    ("id", "object", "request_id", "checks", "limits", "candidates", "attempts", "ledger"),
    **{
        **TRACE["properties"],
        "object": {"type": "string", "const": "trace_card"},
        "project_id": _MAYBE_TEXT,
        "account_id": _MAYBE_TEXT,
        "checks": _told({"type": "array", "items": _CHECK}, "The questions, in their order."),
        "limits": {
            "type": ["array", "null"],
            "items": _LIMIT,
            "description": "Every limit that counted: left before the call, and after.",
        },
        "candidates": _told(_NAMES, "The targets that were considered, in their order."),
        "attempts": {"type": "array", "items": _ATTEMPT},
        "price": {"type": ["object", "null"], "description": "The price that was in force."},
        "ledger": {"type": "array", "items": _LINE},
    },
)

_SHARE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}
_TIMES: Final = _object(avg=_MAYBE_MS, p50=_MAYBE_MS, p95=_MAYBE_MS, p99=_MAYBE_MS)
_WINDOW: Final[dict[str, Schema]] = {
    "window": _TEXT,
    "since": _told(_MOMENT, "Within; a multiple of a part's length since 1970 in UTC."),
    "until": _told(_MOMENT, "Not within: the end of the running part."),
}
_SUMS: Final[dict[str, Schema]] = {
    "requests": _COUNT,
    "errors": _told(_COUNT, "Answered with 400 or more."),
    "error_rate": _SHARE,
    "tokens_in": _COUNT,
    "tokens_cached": _COUNT,
    "tokens_out": _COUNT,
    "cost_usd": _USD,
    "unpriced_requests": _told(_COUNT, "Calls that `cost_usd` leaves out, as they had no price."),
    "cost_estimate_usd": _told(_USD, "What those would cost at the default price. Not charged."),
    "estimated_share": _told(_SHARE, "Of the calls, how many had tokens that nobody counted."),
}
_FIGURES: Final[dict[str, Schema]] = {
    **_SUMS,
    "latency_ms": _told(_TIMES, "From a call's head to its end, to three digits."),
    "ttfb_ms": _told(_TIMES, "From its body to the answer's first byte."),
    "overhead_ms": _told(_TIMES, "What of it was ours."),
}
USAGE: Final = _object(
    ("object", "window", "requests"),
    object={"type": "string", "const": "usage"},
    **_WINDOW,
    **_SUMS,
    tokens_total=_COUNT,
)
SUMMARY: Final = _object(
    ("object", "window", "requests"),
    object={"type": "string", "const": "summary"},
    **_WINDOW,
    **_FIGURES,
)
TIMESERIES: Final = _list_of(
    _object(("start", "requests"), start=_MOMENT, **_FIGURES), **_WINDOW, bucket_seconds=_COUNT
)
MODEL_FIGURES: Final = _list_of(
    _object(("model", "requests"), model=_MAYBE_TEXT, **_FIGURES), **_WINDOW
)

# --- keys and projects, managed by a key --------------------------------------------------------------------------------

_LIMIT_FIELDS: Final[dict[str, Schema]] = _LIMITS["properties"]
_WHO: Final = _told(
    {
        "type": ["object", "null"],
        "properties": {"type": _TEXT, "id": _MAYBE_TEXT, "label": _MAYBE_TEXT},
    },
    "Who did it; staff of the house have no name here.",
)
_OWN_FIELDS: Final[dict[str, Schema]] = {
    "name": _told(_TEXT, "1 to 128 characters."),
    "project": _told(_MAYBE_TEXT, "The id of a project; this key's own, if it has one."),
    "account": _told(_MAYBE_TEXT, "The id of who pays; this key's own, if it has one."),
    "scopes": {
        "type": "array",
        "items": {"type": "string", "enum": ["inference", "usage", "projects", "mcp", "keys"]},
    },
    "allowed_models": _told(_NAMES, "Null: all. A `*` may stand at the end of a name."),
    "allowed_capabilities": _told(_NAMES, "Null: all."),
    "allowed_addresses": _told(_NAMES, "Addresses and blocks; null: anywhere."),
    **_LIMIT_FIELDS,
    "log_content": _told(_FLAG, "Keep bodies, where the tenant allows it."),
    "expires_at": _MOMENT,
}
_TEAM: Final = _told(_MAYBE_TEXT, "1 to 64 of letters, digits, `.`, `_` and `-`.")
NEW_KEY: Final = _object(("name",), **_OWN_FIELDS, team=_TEAM)
KEY_CHANGE: Final = _object(
    (), **_OWN_FIELDS, is_active=_told(_FLAG, "False: paused, until it is true again.")
)
ROTATION: Final = _object(
    (),
    grace_period_seconds={
        "type": "integer",
        "minimum": 0,
        "maximum": 604_800,
        "default": 0,
        "description": "How long the old secret works on.",
    },
)
KEY: Final = _object(
    ("id", "object", "name", "key_prefix", "status"),
    id=_TEXT,
    object={"type": "string", "const": "key"},
    tenant=_TEXT,
    **_OWN_FIELDS,
    team=_TEAM,
    key_prefix=_TEXT,
    status={"type": "string", "enum": ["active", "paused", "expired", "revoked"]},
    is_active=_FLAG,
    source={"type": "string", "enum": ["admin", "config", "import", "self-service"]},
    created_at=_MOMENT,
    created_by=_WHO,
    revoked_at=_MOMENT,
    revoked_by=_WHO,
    revoked_reason=_MAYBE_TEXT,
    last_used_at=_told(_MOMENT, "To the minute."),
    previous_secret_expires_at=_told(_MOMENT, "Until when an older secret works on."),
)
ISSUED_KEY: Final = {
    **KEY,
    "properties": {
        **KEY["properties"],
        "key": _told(_TEXT, "The key itself: here, and never again."),
    },
    "required": [*KEY["required"], "key"],
}
NEW_PROJECT: Final = _object(
    ("name",), name=_told(_TEXT, "1 to 128 characters, once in the tenant."), **_LIMIT_FIELDS
)
PROJECT: Final = _object(
    ("id", "object", "name"),
    id=_TEXT,
    object={"type": "string", "const": "project"},
    tenant=_TEXT,
    name=_TEXT,
    **_LIMIT_FIELDS,
    created_at=_MOMENT,
)
KEYS: Final = _list_of(reference("Key"), **_PAGES)
PROJECTS: Final = _list_of(reference("Project"), **_PAGES)
#: What a change may be sent, by the name of its shape.
EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "NewKey": {"name": "the mobile app", "allowed_models": ["gpt-*"], "rate_limit_rpm": 60},
    "KeyChange": {"is_active": False},
    "Rotation": {"grace_period_seconds": 3600},
    "NewProject": {"name": "Web", "cost_budget_usd": "25"},
}

COMPONENTS: Final[dict[str, Schema]] = {
    "ChatRequest": CHAT_REQUEST,
    "ChatAnswer": CHAT_ANSWER,
    "CompletionRequest": COMPLETION_REQUEST,
    "CompletionAnswer": COMPLETION_ANSWER,
    "EmbeddingRequest": EMBEDDING_REQUEST,
    "EmbeddingAnswer": EMBEDDING_ANSWER,
    "Model": MODEL,
    "Models": MODELS,
    "KeyState": KEY_STATE,
    "Trace": TRACE,
    "Traces": TRACES,
    "TraceCard": TRACE_CARD,
    "Usage": USAGE,
    "Summary": SUMMARY,
    "Timeseries": TIMESERIES,
    "ModelFigures": MODEL_FIGURES,
    "NewKey": NEW_KEY,
    "KeyChange": KEY_CHANGE,
    "Rotation": ROTATION,
    "Key": KEY,
    "IssuedKey": ISSUED_KEY,
    "Keys": KEYS,
    "NewProject": NEW_PROJECT,
    "Project": PROJECT,
    "Projects": PROJECTS,
    "Error": ERROR,
}
