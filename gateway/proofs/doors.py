"""Every door there is, from the URLconf itself, and what can be tried there with somebody else's things."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from django.urls import URLPattern, URLResolver, get_resolver

_PLAIN: Final = ("GET", "HEAD", "OPTIONS", "DELETE")
_WITH_BODIES: Final = ("POST", "PUT", "PATCH")
_BODIES: Final = (b"", b'{"name":"taken over"}', b'{"is_active":false}')
#: Parameters of lists and members of bodies that may mean a thing of somebody, with what it is.
FILTERS: Final = {
    **{name: name for name in ("tenant", "project", "key", "team", "model", "provider")},
    "account": "user",
    "user": "user",
    "store_id": "store",
    "username": "member",
    "operator": "member",
    "request_id": "call",
    "trace_id": "trace",
    "target": "key",
    "actor": "key",
    "id": "key",
    "q": "key",
}
FIELDS: Final = {
    **{name: name for name in ("tenant", "project", "key", "model", "provider")},
    "account": "user",
    "user": "user",
    "store_id": "store",
    "tenants": "tenant",
    "id": "key",
}
#: Lists of the console are asked with these as well.
_PART: Final = re.compile(r"<(?:(?P<kind>[a-z]+):)?(?P<name>[a-z_]+)>")
_GROUP: Final = re.compile(r"\(\?P<(?P<name>[a-z_]+)>(?:[^()\\]|\\.)*\)")


class Name(NamedTuple):
    """A thing of somebody: its kind, its name, and one of the same form that nobody has."""

    kind: str
    theirs: str
    nobodys: str
    is_uuid: bool


@dataclass(frozen=True)
class Door:
    """`route` with a `{name}` for each part that names a thing; `uuids` are those parts that take nothing but a UUID."""

    route: str
    parts: tuple[str, ...]
    uuids: frozenset[str]

    def path(self, values: Iterable[str]) -> str:
        path = self.route
        for part, value in zip(self.parts, values, strict=True):
            path = path.replace(f"{{{part}}}", value, 1)
        return f"/{path}"


class Request(NamedTuple):
    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True)
class Attempt:
    """A request that names things of somebody else, and the same one with names that nobody has: the answers must be alike.

    `is_steady`: the answer to the other one is the same every time.
    """

    door: Door
    request: Request
    control: Request
    names: tuple[Name, ...]
    is_steady: bool


def doors(prefix: str = "") -> list[Door]:
    """Those whose route begins like that, in the order of the URLconf, each once."""
    found = dict.fromkeys(_doors(get_resolver().url_patterns, "", frozenset()))
    return [door for door in found if door.route.startswith(prefix)]


def _doors(patterns: Iterable[Any], before: str, uuids: frozenset[str]) -> Iterator[Door]:
    for pattern in patterns:
        text = str(pattern.pattern)
        within = uuids | {it["name"] for it in _PART.finditer(text) if it["kind"] == "uuid"}
        route = before + _readable(text)
        if isinstance(pattern, URLResolver):
            yield from _doors(pattern.url_patterns, route, within)
        elif isinstance(pattern, URLPattern):
            yield Door(route, tuple(re.findall(r"\{([a-z_]+)\}", route)), within)


def _readable(pattern: str) -> str:
    """A pattern of either form as a path with a name for each part."""
    text = _PART.sub(r"{\g<name>}", _GROUP.sub(r"{\g<name>}", pattern))
    return text.removeprefix("^").removesuffix(r"\Z").removesuffix("$").replace("\\", "")


def attempts(door: Door, theirs: Iterable[Name], own: Mapping[str, str]) -> Iterator[Attempt]:
    """Everything at one door. `own` are names of the side that tries, by their kind."""
    names = list(theirs)
    if door.parts:
        yield from _by_path(door, names, own)
    else:
        yield from _by_query(door, names)
        yield from _by_body(door, names)


def _by_path(door: Door, names: list[Name], own: Mapping[str, str]) -> Iterator[Attempt]:
    """Theirs in every part of the path, or in some of them and ours in the others."""
    choices = [
        [
            *(name for name in names if name.is_uuid or part not in door.uuids),
            *([Name("own", own["tenant"], own["tenant"], True)] if len(door.parts) > 1 else []),
        ]
        for part in door.parts
    ]
    for chosen in itertools.product(*choices):
        if all(name.kind == "own" for name in chosen):
            continue
        paths = [door.path(it.theirs for it in chosen), door.path(it.nobodys for it in chosen)]
        for method, body in _requests():
            asked, control = (Request(method, path, body) for path in paths)
            yield Attempt(door, asked, control, chosen, is_steady=True)


def _requests() -> Iterator[tuple[str, bytes]]:
    yield from ((method, b"") for method in _PLAIN)
    yield from itertools.product(_WITH_BODIES, _BODIES)


def _by_query(door: Door, names: list[Name]) -> Iterator[Attempt]:
    for parameter, kind in FILTERS.items():
        for name in (it for it in names if it.kind == kind):
            asked, control = (
                Request("GET", f"/{door.route}?{parameter}={value}")
                for value in (name.theirs, name.nobodys)
            )
            yield Attempt(door, asked, control, (name,), is_steady=False)


def _by_body(door: Door, names: list[Name]) -> Iterator[Attempt]:
    for (field, kind), method in itertools.product(FIELDS.items(), _WITH_BODIES):
        for name in (it for it in names if it.kind == kind):
            asked, control = (
                Request(method, f"/{door.route}", _body(field, value))
                for value in (name.theirs, name.nobodys)
            )
            yield Attempt(door, asked, control, (name,), is_steady=False)


def _body(field: str, value: str) -> bytes:
    """What would be enough for a call, or for a key or a project, were it not for this one thing."""
    if field == "model":
        return json.dumps(
            {"model": value, "messages": [{"role": "user", "content": "Whose is it?"}]}
        ).encode()
    given: Any = [value] if field == "tenants" else value
    return json.dumps({"name": f"for {value}", field: given}).encode()
