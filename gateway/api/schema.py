"""`/v1/admin/schema`: the OpenAPI document of the admin API, made once from its routes and views, the same for everybody."""

import inspect
import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, include, path
from django.views.decorators.http import require_safe

from gateway.api import urls
from gateway.api.documented import CREDENTIALS
from gateway.api.permissions import Access
from gateway.api.shapes.base import ERROR, SHAPES, UNREAD
from gateway.openapi import generator
from gateway.openapi.operations import ONCE, ONCE_REFUSED
from gateway.openapi.schemas import Schema
from tenants import roles

PREFIX: Final = "/v1/admin"
_DESCRIPTION: Final = (
    "For operators and their programs. Bodies are JSON in UTF-8, moments are UTC, money is a decimal text of US dollars. Members"
    " and parameters that a route does not know are refused. Lists come newest first, a page at a time."
)
#: What the first part of a path is about, where it does not say so itself.
_GROUPS: Final = {
    "auth": "Signing in",
    "stats": "Figures",
    "analytics": "Figures",
    "holds": "Money in flight",
    "audit": "Audit log",
    "config": "Configuration file",
    "backup": "Backups",
}
#: What doors refuse, and when.
REFUSALS: Final = {
    "400": "`invalid_request`: `fields` says what is wrong with which member or parameter.",
    "401": "`missing_credentials`: none was sent. `invalid_credentials`: it opens nothing, whatever the reason.",
    "403": "`forbidden`: your role does not allow it. `scope_missing`: your token was not made for it."
    " `session_required`: sign in with a password. `password_change_required`: change your password first.",
    "404": "`not_found`: there is no such thing here, or it is somebody else's.",
    "408": "`invalid_request`: the body did not come in time.",
    "413": "`body_too_large`.",
    "414": "`invalid_request`: the address is longer than 8 KiB. Nothing has looked at what it is for.",
    "415": "`unsupported_media_type`: the body must be `application/json`.",
    **{str(status): text for status, text in ONCE_REFUSED.items()},
    "431": "`invalid_request`: too many headers, or too long. Nothing has looked at what they are for.",
    "503": "`unavailable`, `overloaded`: come back after `Retry-After`.",
}
_OF_A_BODY: Final = ("408", "413", "415")
_OF_ONCE: Final = tuple(map(str, ONCE_REFUSED))
#: Of what is no request yet, in the words of the data plane, for nobody has asked whose door it is.
_UNREAD: Final = ("414", "431")
_HEADERS: Final = {
    "x-request-id": "Names this answer.",
    "WWW-Authenticate": "The scheme to use.",
    "Retry-After": "Seconds.",
}
_ONCE: Final = {
    "in": "header",
    "name": ONCE.name,
    "schema": ONCE.type,
    "description": ONCE.description,
}
#: Those of refusals, beside `x-request-id`, which every answer has.
_HEADERS_OF: Final = {"401": ["WWW-Authenticate"], "429": ["Retry-After"], "503": ["Retry-After"]}


class Route(NamedTuple):
    """One method of one route, as gateway/api/urls.py has it."""

    method: str
    path: str
    access: Access
    view: Any


def routes() -> Iterator[Route]:
    for pattern in urls.urlpatterns:
        made: Any = pattern.callback
        for method, access in made.initkwargs["access"].items():
            yield Route(method, f"{PREFIX}/{pattern.name}", access, made.cls)


@cache
def document() -> dict[str, Any]:
    """The document as an object. Not to be changed."""
    made = generator.made(
        _installed(),
        title="Gatehouse admin API",
        description=_DESCRIPTION,
        prefix=PREFIX,
        components=_components(),
        tags=list(dict.fromkeys(map(_group, routes()))),
    )
    for route in routes():
        _complete(made["paths"][route.path][route.method.lower()], route)
    return made


def _installed() -> list[URLPattern]:
    """The routes under the address that they have."""
    installed: Any = path(f"{PREFIX[1:]}/", include(urls))
    return [installed]


def _complete(operation: dict[str, Any], route: Route) -> None:
    """What follows from the route: its group, who may use it, and what it refuses because of that."""
    access = route.access
    what = inspect.getdoc(getattr(route.view, route.method.lower())) or ""
    operation["description"] = f"{what} {_who(access)}".strip()
    operation["tags"] = [_group(route)]
    operation["security"] = [] if access.public else [{name: []} for name in CREDENTIALS]
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "query" and not parameter.get("required"):
            # An empty one counts as absent.
            parameter["allowEmptyValue"] = True
    if "requestBody" in operation:
        operation["requestBody"]["required"] = _asks_for_something(operation["requestBody"])
    is_once = route.method == "POST" and route.view.is_made_once and not access.public
    if is_once:
        operation.setdefault("parameters", []).append(_ONCE)
    usual = {
        "400": True,
        "401": not access.public,
        "403": not access.public,
        "404": "{" in route.path,
        **dict.fromkeys(_UNREAD, True),
        "503": True,
        **dict.fromkeys(_OF_A_BODY, "requestBody" in operation),
        **dict.fromkeys(_OF_ONCE, is_once),
    }
    own = operation["responses"]
    for status, response in own.items():
        response["headers"] = _headers(status)
        if is_once and status in _OF_ONCE:
            response["description"] += f" {REFUSALS[status]}"
    refused = {
        status: {"$ref": f"#/components/responses/{status}"}
        for status, is_so in usual.items()
        if is_so
    }
    operation["responses"] = dict(sorted({**refused, **own}.items()))


def _group(route: Route) -> str:
    part = route.path.removeprefix(f"{PREFIX}/").partition("/")[0]
    return _GROUPS.get(part, part.capitalize())


def _who(access: Access) -> str:
    if access.public:
        return "For everybody."
    told = [f"For {_named(access.roles, roles.ORDER)} of the house."]
    if access.members:
        told.append(f"In a tenant: for {_named(access.members, roles.MEMBER_ORDER)} of it.")
    if access.scope:
        told.append(f"A service token needs the scope `{access.scope}`.")
    if access.session:
        told.append("Not for service tokens and the admin key.")
    elif not access.scope:
        told.append("Not for service tokens.")
    return " ".join(told)


def _named(some: frozenset[str], of: Sequence[str]) -> str:
    named = [f"`{role}`" for role in of if role in some]
    return "every role" if len(named) == len(of) else " and ".join(named)


def _asks_for_something(body: dict[str, Any]) -> bool:
    schema = next(iter(body["content"].values()))["schema"]
    shape = SHAPES.schemas.get(schema.get("$ref", "").rpartition("/")[2])
    return (
        shape is None or bool(shape["required"]) or bool({"minProperties", "anyOf"} & shape.keys())
    )


def _headers(status: str) -> Schema:
    names = ["x-request-id", *_HEADERS_OF.get(status, ())]
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _components() -> dict[str, dict[str, Schema]]:
    return {
        "schemas": SHAPES.schemas,
        "responses": {
            status: {
                "description": text,
                "headers": _headers(status),
                "content": {
                    "application/json": {"schema": (UNREAD if status in _UNREAD else ERROR).ref}
                },
            }
            for status, text in REFUSALS.items()
        },
        "headers": {
            name: {"description": text, "required": True, "schema": {"type": "string"}}
            for name, text in _HEADERS.items()
        },
        "securitySchemes": CREDENTIALS,
    }


@cache
def _text() -> bytes:
    return json.dumps(document(), ensure_ascii=False).encode()


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    return HttpResponse(
        _text(),
        content_type="application/json",
        headers={"Cache-Control": generator.CACHE_CONTROL},
    )
