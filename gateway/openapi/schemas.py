"""JSON Schema in small pieces. Pure.

A piece carries an example where a reader would want one; what is put together of pieces has its example from them.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
ID: Final[Schema] = {
    "type": "string",
    "format": "uuid",
    "examples": ["0b8d2c4e-6f1a-4c3b-9d5e-7a8b9c0d1e2f"],
}
#: UTC.
MOMENT: Final[Schema] = {
    "type": "string",
    "format": "date-time",
    "examples": ["2026-01-31T12:00:00Z"],
}
MAYBE_TEXT: Final[Schema] = {"type": ["string", "null"]}
MAYBE_COUNT: Final[Schema] = {"type": ["integer", "null"], "minimum": 0}
MAYBE_ID: Final[Schema] = {"type": ["string", "null"], "format": "uuid"}
MAYBE_MOMENT: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
MAYBE_MS: Final[Schema] = {
    "type": ["number", "null"],
    "description": "Milliseconds.",
    "examples": [12.5],
}
NOTHING: Final[Schema] = {"type": "null"}


def told(schema: Mapping[str, Any], description: str) -> Schema:
    return {**schema, "description": description}


def shown(schema: Mapping[str, Any], example: Any) -> Schema:
    """With this for an example."""
    return {**schema, "examples": [example]}


def maybe(schema: Mapping[str, Any]) -> Schema:
    """The same, or null."""
    if "$ref" in schema:
        return {"anyOf": [dict(schema), NOTHING]}
    kinds = schema["type"]
    told_of = [kinds] if isinstance(kinds, str) else list(kinds)
    null = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [*told_of, "null"], **null}


def array(items: Mapping[str, Any], *, least: int = 0, most: int | None = None) -> Schema:
    bounds = {} if most is None else {"minItems": least, "maxItems": most}
    return {"type": "array", "items": dict(items), **bounds}


def one_of(choices: Iterable[str]) -> Schema:
    return {"type": "string", "enum": list(choices)}


def integer(lowest: int, highest: int) -> Schema:
    return {"type": "integer", "minimum": lowest, "maximum": highest}


def text(shortest: int, longest: int) -> Schema:
    return {"type": "string", "minLength": shortest, "maxLength": longest}


def fitting(pattern: str) -> Schema:
    """A text all of which the regular expression matches."""
    return {"type": "string", "pattern": f"^(?:{pattern})$"}


def constant(value: str) -> Schema:
    return {"type": "string", "const": value}


def members(required: Iterable[str] = (), /, **properties: Schema) -> Schema:
    """An object of which `required` have to be there."""
    return {"type": "object", "properties": properties, "required": sorted(required)}


def answer(**properties: Schema) -> Schema:
    """An object whose members are all there, always."""
    return members(properties, **properties)


def request(required: Iterable[str] = (), /, **properties: Schema) -> Schema:
    """A body that may hold these members and no others."""
    return {**members(required, **properties), "additionalProperties": False}


def changes(**properties: Schema) -> Schema:
    """A body that names what is to be changed: at least one of these."""
    return {**request(**properties), "minProperties": 1}


def example_of(schema: Mapping[str, Any], components: Mapping[str, Schema]) -> Any:
    """What a value of this schema looks like, by the examples of its pieces."""
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components)
    for name in ("examples", "enum"):
        if name in schema and None not in schema[name]:
            return schema[name][0]
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], components)
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    return _example_by_type(schema, components)


def _example_by_type(schema: Mapping[str, Any], components: Mapping[str, Schema]) -> Any:
    kinds = schema["type"]
    if "null" in kinds:
        return None
    if kinds == "object":
        parts = schema.get("properties", {})
        return {name: example_of(part, components) for name, part in parts.items()}
    if kinds == "array":
        return [example_of(schema["items"], components)] if "items" in schema else []
    return {"string": "text", "boolean": True}.get(kinds, max(schema.get("minimum", 0), 1))
