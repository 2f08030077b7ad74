"""The house's runtime settings."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented
from gateway.api.bodies.settings import settings_body
from gateway.api.door import AdminView, actor_of
from gateway.api.requests import query_of
from gateway.api.shapes import settings as shapes
from tenants import setting_services as services
from tenants.errors import Invalid


class SettingsView(AdminView):
    @documented.operation("listSettings", "List settings", answer=shapes.SETTINGS)
    def get(self, request: Request) -> Response:
        query_of(request)
        return Response(settings_body(services.states()))

    @documented.operation(
        "changeSettings",
        "Change settings",
        body=shapes.SETTING_CHANGES,
        answer=shapes.SETTINGS,
        refuses={409: "`managed_by_environment`: a variable says it."},
    )
    def patch(self, request: Request) -> Response:
        """Names and their new values; the others stay. All of them, or none."""
        query_of(request)
        values: Any = request.data
        if not isinstance(values, dict):
            raise Invalid("The body must be a JSON object.")
        return Response(
            settings_body(services.change_settings(actor=actor_of(request), values=values))
        )
