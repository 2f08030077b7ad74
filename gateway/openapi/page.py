"""An OpenAPI document as one page that needs no script."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from django.conf import settings
from django.template.loader import render_to_string

from gateway.version import VERSION

_METHODS: Final = ("get", "post", "put", "patch", "delete")


class Prose(str):
    """A text of the document, in which backquotes stand around what is code."""

    __slots__ = ()

    @property
    def parts(self) -> list[tuple[str, bool]]:
        """The text in pieces, and whether each is code."""
        return [(piece, n % 2 == 1) for n, piece in enumerate(self.split("`")) if piece]


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, or a member of a body. `type` as one reads it."""

    name: str
    type: str
    is_required: bool
    description: Prose


@dataclass(frozen=True, slots=True)
class Answer:
    status: str
    description: Prose


@dataclass(frozen=True, slots=True)
class Operation:
    """One entry of the page."""

    id: str
    method: str
    path: str
    summary: str
    description: Prose
    parameters: list[Field]
    body: list[Field]
    answer: list[Field]
    example: str
    headers: list[Field]
    errors: list[Answer]
    curl: str


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    operations: list[Operation]


def rendered(told: Mapping[str, Any], *, source: str, base: str, credential: str) -> str:
    """The page of this document, which is to be had at `source`.

    `base` is what its paths begin with, `credential` the shell's variable in examples.
    """
    schemes = told["components"]["securitySchemes"]
    return render_to_string(
        "api_docs/page.html",
        {
            "title": told["info"]["title"],
            "groups": _groups(told, credential),
            "description": Prose(told["info"]["description"]),
            "source": source,
            "address": settings.PUBLIC_URL + base,
            "headers": [scheme["name"] for scheme in schemes.values() if "name" in scheme],
            "version": VERSION,
        },
    )


def _groups(told: Mapping[str, Any], credential: str) -> list[Group]:
    return [
        Group(
            tag["name"], [it for it, tags in _operations(told, credential) if tag["name"] in tags]
        )
        for tag in told["tags"]
    ]


def _operations(told: Mapping[str, Any], credential: str) -> Iterator[tuple[Operation, list[str]]]:
    for path, methods in told["paths"].items():
        for method in _METHODS:
            if method in methods:
                found = _operation(told, method, path, methods[method], credential)
                yield found, methods[method]["tags"]


def _operation(
    told: Mapping[str, Any], method: str, path: str, it: Mapping[str, Any], credential: str
) -> Operation:
    responses = {code: _whole(told, each) for code, each in it["responses"].items()}
    sent = it.get("requestBody", {}).get("content", {}).get("application/json", {})
    status = next(status for status in responses if status.startswith("2"))
    good = responses[status]
    media: Mapping[str, Any] = next(iter(good.get("content", {}).values()), {})
    return Operation(
        id=it["operationId"],
        method=method.upper(),
        path=path,
        summary=it["summary"],
        description=Prose(it["description"]),
        parameters=[
            Field(
                parameter["name"],
                _type(told, parameter["schema"]),
                parameter.get("required", False),
                Prose(parameter.get("description", "") or f"In the {parameter['in']}."),
            )
            for parameter in it.get("parameters", [])
        ],
        body=list(_with_parts(told, sent.get("schema", {}))),
        answer=_fields(told, media.get("schema", {})),
        example=_shown(_example(media)),
        headers=[
            Field(name, "string", False, Prose(_whole(told, header).get("description", "")))
            for name, header in good.get("headers", {}).items()
        ],
        errors=[
            Answer(code, Prose(response["description"]))
            for code, response in sorted(responses.items())
            if code != status
        ],
        curl=_curl(method.upper(), path, _example(sent), credential if it["security"] else ""),
    )


def _fields(told: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Field]:
    whole = _whole(told, schema)
    required = whole.get("required", [])
    return [
        Field(name, _type(told, member), name in required, Prose(member.get("description", "")))
        for name, member in whole.get("properties", {}).items()
    ]


def _with_parts(told: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Field]:
    """With the members of what is in lists of it."""
    members = _whole(told, schema).get("properties", {})
    for field in _fields(told, schema):
        yield field
        for part in _fields(told, members[field.name].get("items", {})):
            yield replace(part, name=f"{field.name}[].{part.name}")


def _whole(told: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """What it refers to, if it is a reference."""
    if "$ref" not in part:
        return part
    sort, name = part["$ref"].split("/")[-2:]
    found: Mapping[str, Any] = told["components"][sort][name]
    return found


def _type(told: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return json.dumps(schema["const"])
    if "anyOf" in schema and "type" not in schema:
        return " or ".join(_type(told, each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(json.dumps(each) for each in schema["enum"])
    kinds = _whole(told, schema).get("type", "any")
    text = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    return f"{text} of {_type(told, schema['items'])}" if "items" in schema else text


def _example(sent: Mapping[str, Any]) -> Any:
    return next((example["value"] for example in sent.get("examples", {}).values()), None)


def _shown(example: Any) -> str:
    if example is None or isinstance(example, str):
        return example or ""
    return json.dumps(example, ensure_ascii=False, indent=2)


def _curl(method: str, path: str, example: Any, credential: str) -> str:
    lines = [f"curl {settings.PUBLIC_URL}{path}"]
    if method not in {"GET", "POST"}:
        lines[0] = f"curl -X {method} {settings.PUBLIC_URL}{path}"
    if credential:
        lines.append(f'-H "Authorization: Bearer ${credential}"')
    if example is not None:
        lines.append('-H "Content-Type: application/json"')
        # In single quotes of the shell, where a single quote has no place.
        told = json.dumps(example, ensure_ascii=False).replace("'", "\\u0027")
        lines.append(f"-d '{told}'")
    return " \\\n  ".join(lines)
