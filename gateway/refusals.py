"""What Django refuses outside of any view: a page in the console, else JSON, in the admin API's shape below `/v1/admin` and in
OpenAI's elsewhere.
"""

import json
import sys
from typing import Any, Final

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from gateway.api import errors
from gateway.api.door import NEVER_CACHED
from gateway.api.errors import Answer
from gateway.console_views import errors as pages

_ADMIN: Final = "/v1/admin"
_CONSOLE: Final = "/console"


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _refusal(request, errors.MALFORMED)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _refusal(request, errors.FORBIDDEN)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _refusal(request, errors.NOT_FOUND)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django has logged what happened; the caller gets a request id to ask about."""
    away = isinstance(sys.exc_info()[1], DatabaseError)
    return _refusal(request, errors.UNAVAILABLE if away else errors.INTERNAL)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return pages.form_refused(request)


def _below(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _refusal(request: HttpRequest, answer: Answer) -> HttpResponse:
    if _below(_CONSOLE, request.path):
        return pages.page(request, answer.status)
    request_id = getattr(request, "request_id", "")
    is_admin = _below(_ADMIN, request.path)
    body = errors.body(answer, request_id) if is_admin else _openai_body(answer)
    response = HttpResponse(
        # As DRF's renderer writes it: a route that is not there cannot be told from a thing that is not there.
        json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        status=answer.status,
        content_type="application/json",
        headers=dict(answer.headers),
    )
    if is_admin:
        response.headers["Cache-Control"] = NEVER_CACHED
        patch_vary_headers(response, ["Authorization", "Cookie"])
    return response


def _openai_body(answer: Answer) -> dict[str, Any]:
    kind = "api_error" if answer.status >= 500 else "invalid_request_error"
    return {"error": {"message": answer.message, "type": kind, "param": None, "code": answer.code}}
