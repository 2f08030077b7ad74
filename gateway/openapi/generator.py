"""An OpenAPI document of some routes, made from their views (drf-spectacular)."""

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final

from django.conf import settings
from django.urls import URLPattern
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings

from gateway.version import VERSION

#: Of everything that is the same for everybody.
CACHE_CONTROL: Final = "public, max-age=300"
#: The generator's settings are one object for the whole process.
_ONE_AT_A_TIME: Final = Lock()
_OF_ALL: Final[dict[str, Any]] = {
    "OAS_VERSION": "3.1.0",
    "VERSION": VERSION,
    "SORT_OPERATIONS": False,
    "POSTPROCESSING_HOOKS": [],
}


def made(
    patterns: Sequence[URLPattern],
    *,
    title: str,
    description: str,
    prefix: str,
    components: Mapping[str, Mapping[str, Any]],
    tags: Sequence[str] = (),
) -> dict[str, Any]:
    """The document of these routes, which begin with `prefix` once they are installed under `/`."""
    options = {
        **_OF_ALL,
        "TITLE": title,
        "DESCRIPTION": description,
        "SERVERS": [{"url": settings.PUBLIC_URL}],
        "SCHEMA_PATH_PREFIX": prefix,
        "TAGS": [{"name": name} for name in tags],
        "APPEND_COMPONENTS": components,
    }
    with _ONE_AT_A_TIME, patched_settings(options):
        generator = SchemaGenerator(patterns=list(patterns))  # type: ignore[no-untyped-call]
        document: dict[str, Any] = generator.get_schema(public=True)  # type: ignore[no-untyped-call]
    return document
