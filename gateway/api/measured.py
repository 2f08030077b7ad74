"""Views that take bodies: bounded, with a length or in chunks."""

from typing import Any, ClassVar

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.views import APIView

from gateway.api.parsers import MAX_BODY


class MeasuredView(APIView):
    """Its body has at most `max_body` bytes; the parser counts."""

    max_body: ClassVar[int] = MAX_BODY

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        # DRF takes a missing length for "no body"; a chunked body has none. The parser counts for itself.
        if not request.META.get("CONTENT_LENGTH") and "HTTP_TRANSFER_ENCODING" in request.META:
            request.META["CONTENT_LENGTH"] = str(self.max_body)
        return super().initialize_request(request, *args, **kwargs)
