"""`/v1/admin/docs`: the admin API's OpenAPI document as a page, for the house's staff.

The document itself is public, for it says what the source says as well. A page invites people to look for doors, so whoever is
not known signs in first, as for the console; programs may show what the API takes.
"""

from functools import cache
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe

from gateway.api.principals import principal_of
from gateway.api.schema import PREFIX, document
from gateway.console import site
from gateway.openapi.page import rendered
from tenants import roles
from tenants.sign_in import BadCredentials

_SOURCE: Final = f"{PREFIX}/schema"


@require_safe
def page(request: HttpRequest) -> HttpResponseBase:
    if _is_known(request):
        return _shown(request)
    answer: HttpResponseBase = site.admin_view(_shown)(request)
    return answer


def _is_known(request: HttpRequest) -> bool:
    try:
        principal = principal_of(request.META)
    except BadCredentials:
        return False
    return principal is not None and principal.role in roles.READERS


def _shown(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_page())


@cache
def _page() -> str:
    return rendered(document(), source=_SOURCE, base=PREFIX, credential="GATEHOUSE_TOKEN")
