"""What every view of the data plane is: JSON whatever `Accept` says, errors in OpenAI's shape, and no cache."""

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.views import APIView

from gateway.api.negotiation import AlwaysJSON
from gateway.relay.errors import NOT_READY, Refusal
from gateway.views import errors
from gateway.views.handler import CallRequest


class DataPlaneView(APIView):
    """The base of all. Neither OPTIONS nor TRACE has a meaning here."""

    content_negotiation_class = AlwaysJSON
    metadata_class = None
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]  # noqa: RUF012 - Django's own attribute

    def get_exception_handler(self) -> Any:
        return errors.handle

    @property
    def default_response_headers(self) -> dict[str, str]:
        """DRF would say `Allow` and `Vary: Accept` on every answer; the one is noise, the other untrue."""
        return {}


class CallView(DataPlaneView):
    """A view of a call. The exchange is what decides (gateway/relay/exchange.py): who calls, what they may, how often.

    So no class of DRF's authenticates, permits or throttles here, and the two edges cannot come apart.
    """

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    # The exact table has no HEAD.
    http_method_names = ["get", "post", "put", "patch", "delete"]  # noqa: RUF012 - Django's own attribute

    async def dispatch(  # type: ignore[override]  # DRF's own is not asynchronous
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """DRF's `dispatch`, which cannot wait, with its order kept: negotiate, authenticate, permit, throttle, answer."""
        self.args, self.kwargs = args, kwargs
        self.request = asked = self.initialize_request(request, *args, **kwargs)
        self.headers = self.default_response_headers
        response: Any
        try:
            self.initial(asked, *args, **kwargs)
            response = await self._handler_of(asked)(asked, *args, **kwargs)
        except Exception as fault:  # noqa: BLE001 - as DRF does; the handler knows each kind and logs the rest
            response = self.handle_exception(fault)
        self.response = self.finalize_response(asked, response, *args, **kwargs)
        return self.response

    def _handler_of(self, request: Request) -> Any:
        name = (request.method or "").lower()
        if name not in self.http_method_names or not hasattr(self, name):
            self.http_method_not_allowed(request)
        return getattr(self, name)

    async def call(self, request: Request) -> HttpResponseBase:
        """What the exchange answers. Raises `Refusal` where no relay runs: the worker has not started, or never will."""
        asked = request._request
        if not isinstance(asked, CallRequest):
            raise Refusal(NOT_READY)
        return await asked.call.answer()
