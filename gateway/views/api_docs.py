"""`/docs`: the OpenAPI document as one page that needs no script."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views.decorators.http import require_safe

from gateway.version import VERSION
from gateway.views.schema import document

_HEADERS: Final = {
    "Cache-Control": "public, max-age=300",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
}
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
    headers: list[Field]
    errors: list[Answer]
    curl: str


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    operations: list[Operation]


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_page(), headers=_HEADERS)


@cache
def _page() -> str:
    told = document()
    return render_to_string(
        "api_docs/page.html",
        {
            "groups": _groups(told),
            "description": Prose(told["info"]["description"]),
            "address": settings.PUBLIC_URL,
            "credentials": list(told["components"]["securitySchemes"]),
            "version": VERSION,
        },
    )


def _groups(told: Mapping[str, Any]) -> list[Group]:
    return [
        Group(tag["name"], [it for it, tags in _operations(told) if tag["name"] in tags])
        for tag in told["tags"]
    ]


def _operations(told: Mapping[str, Any]) -> Iterator[tuple[Operation, list[str]]]:
    for path, methods in told["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield _operation(told, method, path, methods[method]), methods[method]["tags"]


def _operation(told: Mapping[str, Any], method: str, path: str, it: Mapping[str, Any]) -> Operation:
    responses = it["responses"]
    sent = it.get("requestBody", {}).get("content", {}).get("application/json", {})
    status = next(status for status in responses if status.startswith("2"))
    good = responses[status]
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
        body=_fields(told, sent.get("schema", {})),
        answer=_fields(told, good.get("content", {}).get("application/json", {}).get("schema", {})),
        headers=[
            Field(name, "string", False, Prose(header.get("description", "")))
            for name, header in good.get("headers", {}).items()
        ],
        errors=[
            Answer(code, Prose(response["description"]))
            for code, response in sorted(responses.items())
            if code != status
        ],
        curl=_curl(method.upper(), path, _example(sent)),
    )


def _fields(told: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Field]:
    whole = _resolved(told, schema)
    required = whole.get("required", [])
    return [
        Field(name, _type(told, member), name in required, Prose(member.get("description", "")))
        for name, member in whole.get("properties", {}).items()
    ]


def _resolved(told: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = told["components"]["schemas"][name] if name else schema
    return found


def _type(told: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return json.dumps(schema["const"])
    kinds = _resolved(told, schema).get("type", "any")
    text = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    return f"{text} of {_type(told, schema['items'])}" if "items" in schema else text


def _example(sent: Mapping[str, Any]) -> Any:
    return next((example["value"] for example in sent.get("examples", {}).values()), None)


def _curl(method: str, path: str, example: Any) -> str:
    lines = [f"curl {settings.PUBLIC_URL}{path}"]
    if method not in {"GET", "POST"}:
        lines[0] = f"curl -X {method} {settings.PUBLIC_URL}{path}"
    lines.append('-H "Authorization: Bearer $GATEHOUSE_KEY"')
    if example is not None:
        lines.append('-H "Content-Type: application/json"')
        # In single quotes of the shell, where a single quote has no place.
        told = json.dumps(example, ensure_ascii=False).replace("'", "\\u0027")
        lines.append(f"-d '{told}'")
    return " \\\n  ".join(lines)
