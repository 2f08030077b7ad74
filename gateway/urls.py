"""Every door on one screen."""

from django.urls import URLPattern, URLResolver, include, path

from gateway import health

urlpatterns: list[URLPattern | URLResolver] = [
    path("", health.home),
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("health", health.health),
    path("health/detail", health.health_detail),
    path("v1/admin/", include("gateway.api.urls")),
]

handler400 = "gateway.refusals.bad_request"
handler403 = "gateway.refusals.forbidden"
handler404 = "gateway.refusals.not_found"
handler500 = "gateway.refusals.server_error"
