"""What Django refuses outside of any view, in JSON: the admin API's shape below `/v1/admin`, OpenAI's elsewhere."""

import json
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from gateway.api import errors
from gateway.api.door import NEVER_CACHED
from gateway.api.errors import Answer

_ADMIN: Final = "/v1/admin"


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _refusal(request, errors.MALFORMED)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _refusal(request, errors.FORBIDDEN)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _refusal(request, errors.NOT_FOUND)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django has logged what happened; the caller gets a request id to ask about."""
    return _refusal(request, errors.INTERNAL)


def _refusal(request: HttpRequest, answer: Answer) -> HttpResponse:
    request_id = getattr(request, "request_id", "")
    is_admin = request.path == _ADMIN or request.path.startswith(f"{_ADMIN}/")
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
