"""The OpenAPI document of the data plane: made once from the views, the same for everybody."""

import json
from functools import cache
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from gateway.openapi import generator
from gateway.views import urls
from gateway.views.documented import CREDENTIALS, TAGS
from gateway.views.shapes.base import SHAPES

_DESCRIPTION: Final = (
    "What programs call, with a tenant's key. The formats are OpenAI's, so its clients work with no more than another address."
    " A missing `/v1` and a doubled one are understood as well, and below `/openai` what Azure's clients send."
)


@cache
def document() -> dict[str, Any]:
    """The document as an object. Not to be changed."""
    return generator.made(
        urls.DOCUMENTED,
        title="Gatehouse API",
        description=_DESCRIPTION,
        prefix="/v1",
        components={"schemas": SHAPES.schemas, "securitySchemes": CREDENTIALS},
        tags=TAGS,
    )


@cache
def _text() -> bytes:
    return json.dumps(document(), ensure_ascii=False).encode()


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    return HttpResponse(
        _text(), content_type="application/json", headers={"Cache-Control": generator.CACHE_CONTROL}
    )
