"""JSON in, JSON out, whatever else the headers ask for."""

from collections.abc import Iterable

from django.http import HttpRequest
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

_CHARSETS = {"utf-8", "utf8"}


def _is_json(content_type: str) -> bool:
    kind, *parameters = [part.strip().lower() for part in content_type[:256].split(";")]
    return kind == "application/json" and all(
        name != "charset" or value.strip('"') in _CHARSETS
        for name, _, value in (parameter.partition("=") for parameter in parameters)
    )


class AlwaysJSON(BaseContentNegotiation):
    """A body that does not say it is JSON finds no parser (415). Answers are JSON without regard to `Accept`."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        return next(iter(parsers)) if _is_json(request.content_type or "") else None

    def select_renderer(
        self,
        request: Request | HttpRequest,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type or "application/json"
