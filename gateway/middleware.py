"""What surrounds every request that Django answers."""

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from gateway import context

#: What only a proxy of ours may say: how the caller came to it.
_PROXYS_WORD = "HTTP_X_FORWARDED_PROTO"

_Handler = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class RequestContext:
    """Gives every request an id (`request.request_id`), every log line of it the same, and every answer both headers.
    And strangers' claims to have come by TLS are taken out before anybody could believe them.

    It is of the kind of what it wraps, so that it never costs a change of threads.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: _Handler) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._answer_async(request)
        own = self._identify(request)
        token = context.request_id.set(own)
        try:
            return self._labelled(cast(HttpResponseBase, self._get_response(request)), own)
        finally:
            context.request_id.reset(token)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        own = self._identify(request)
        token = context.request_id.set(own)
        try:
            answer = await cast(Awaitable[HttpResponseBase], self._get_response(request))
            return self._labelled(answer, own)
        finally:
            context.request_id.reset(token)

    @staticmethod
    def _identify(request: HttpRequest) -> str:
        offered = request.headers.get("x-request-id") or request.headers.get("request-id")
        own = context.request_id_for(offered)
        request.request_id = own  # type: ignore[attr-defined]
        if _PROXYS_WORD in request.META and not context.is_trusted_peer(
            request.META.get("REMOTE_ADDR", ""), settings.TRUSTED_PROXIES
        ):
            del request.META[_PROXYS_WORD]
        return own

    @staticmethod
    def _labelled(answer: HttpResponseBase, own: str) -> HttpResponseBase:
        answer.headers["x-request-id"] = own
        answer.headers["request-id"] = own
        return answer
