"""The OpenAPI document of the data plane: made once from the views, the same for everybody."""

import json
from functools import cache
from threading import Lock
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings

from gateway.version import VERSION
from gateway.views import shapes, urls
from gateway.views.documented import CREDENTIALS, TAGS

_DESCRIPTION: Final = (
    "What programs call, with a tenant's key. The formats are OpenAI's, so its clients work with no more than another address."
    " A missing `/v1` and a doubled one are understood as well, and below `/openai` what Azure's clients send."
)
_CACHE_CONTROL: Final = "public, max-age=300"
#: The generator's settings are one object for the whole process.
_ONE_AT_A_TIME: Final = Lock()


def _options() -> dict[str, Any]:
    return {
        "OAS_VERSION": "3.1.0",
        "TITLE": "Gatehouse",
        "VERSION": VERSION,
        "DESCRIPTION": _DESCRIPTION,
        "SERVERS": [{"url": settings.PUBLIC_URL}],
        "SCHEMA_PATH_PREFIX": "/v1",
        "TAGS": [{"name": name} for name in TAGS],
        "APPEND_COMPONENTS": {"schemas": shapes.COMPONENTS, "securitySchemes": CREDENTIALS},
        "SORT_OPERATIONS": False,
    }


@cache
def document() -> dict[str, Any]:
    """The document as an object. Not to be changed."""
    with _ONE_AT_A_TIME, patched_settings(_options()):
        generator = SchemaGenerator(patterns=urls.DOCUMENTED)  # type: ignore[no-untyped-call]
        made: dict[str, Any] = generator.get_schema(public=True)  # type: ignore[no-untyped-call]
    return made


@cache
def _text() -> bytes:
    return json.dumps(document(), ensure_ascii=False).encode()


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    return HttpResponse(
        _text(), content_type="application/json", headers={"Cache-Control": _CACHE_CONTROL}
    )
