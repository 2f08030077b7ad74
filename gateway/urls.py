"""Every door on one screen."""

from django.urls import URLPattern, URLResolver, include, path

from gateway import console, health, static_files
from gateway.api import docs as admin_docs
from gateway.api import schema as admin_schema
from gateway.metrics import scrape
from gateway.views import api_docs, schema

urlpatterns: list[URLPattern | URLResolver] = [
    path("", health.home),
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("health", health.health),
    path("health/detail", health.health_detail),
    path("metrics", scrape.metrics),
    path("console", console.root),
    path("console/", console.site.urls),
    path("static/<path:name>", static_files.serve),
    path("v1/admin/schema", admin_schema.openapi),
    path("v1/admin/docs", admin_docs.page),
    path("v1/admin/", include("gateway.api.urls")),
    path("v1/openapi.json", schema.openapi),
    path("docs", api_docs.page),
    path("", include("gateway.views.urls")),
]

handler400 = "gateway.refusals.bad_request"
handler403 = "gateway.refusals.forbidden"
handler404 = "gateway.refusals.not_found"
handler500 = "gateway.refusals.server_error"
