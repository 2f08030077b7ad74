"""django-prometheus around what Django answers: requests by view, method and status, and how long they took.

The package's middlewares are synchronous, which costs an asynchronous chain a change of threads for each of their hooks: more
than a small view itself. Their hooks only count, so here they run where they are called.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django_prometheus.middleware import PrometheusAfterMiddleware, PrometheusBeforeMiddleware

_Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


class Before(PrometheusBeforeMiddleware):  # type: ignore[misc]  # it comes without types
    """The outermost: everything that Django does."""

    async def __acall__(self, request: HttpRequest) -> HttpResponse:
        self.process_request(request)
        answer: HttpResponse = self.process_response(request, await self.get_response(request))
        return answer


class After(PrometheusAfterMiddleware):  # type: ignore[misc]
    """The innermost: the view alone."""

    def __init__(self, get_response: _Handler) -> None:
        super().__init__(get_response)
        if self.async_mode:
            # Django calls these by themselves, and asks each of what kind it is.
            self.process_view = self._process_view_here
            self.process_template_response = self._process_template_response_here

    async def __acall__(self, request: HttpRequest) -> HttpResponse:
        self.process_request(request)
        answer: HttpResponse = self.process_response(request, await self.get_response(request))
        return answer

    async def _process_view_here(self, *args: Any, **kwargs: Any) -> None:
        super().process_view(*args, **kwargs)

    async def _process_template_response_here(
        self, request: HttpRequest, response: HttpResponse
    ) -> HttpResponse:
        answer: HttpResponse = super().process_template_response(request, response)
        return answer

    def label_metric(
        self, metric: Any, request: HttpRequest, response: HttpResponse | None = None, **labels: str
    ) -> Any:
        """In one place the package takes the method as it was sent, which may be any word."""
        if "method" in labels:
            labels["method"] = self._method(request)
        return super().label_metric(metric, request, response, **labels)
