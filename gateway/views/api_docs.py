"""`/docs`: the data plane's OpenAPI document as a page, for everybody."""

from functools import cache
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from gateway.openapi import generator
from gateway.openapi.page import rendered
from gateway.views.schema import document

_HEADERS: Final = {
    "Cache-Control": generator.CACHE_CONTROL,
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
}


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_page(), headers=_HEADERS)


@cache
def _page() -> str:
    return rendered(document(), source="/v1/openapi.json", base="/v1", credential="GATEHOUSE_KEY")
