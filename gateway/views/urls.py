"""Every route of the data plane, as `gateway/relay/endpoints.py` has them (a test compares), and of a key's own state."""

from django.urls import URLPattern, path, re_path

from gateway.relay.endpoints import BASES, DEPLOYMENTS
from gateway.views import calls, figures, keys, projects, state

_VIEWS = {
    "/chat/completions": calls.ChatCompletionsView,
    "/completions": calls.CompletionsView,
    "/embeddings": calls.EmbeddingsView,
    "/models": calls.ModelsView,
}


def _routes(base: str) -> list[URLPattern]:
    below = base.lstrip("/")
    start = f"{below}/" if below else ""
    return [
        *(path(start + route.lstrip("/"), view.as_view()) for route, view in _VIEWS.items()),
        # A model's name may hold anything, line ends included, for which `path:` has no place; no flag, for Django reverses this.
        re_path(rf"^{start}models/(?P<model>[\s\S]+)\Z", calls.ModelView.as_view()),
    ]


_DEPLOYED = DEPLOYMENTS.lstrip("/")

_STATE = [
    path("v1/key", state.KeyView.as_view()),
    path("v1/traces", state.TracesView.as_view()),
    path("v1/traces/<str:request_id>", state.TraceView.as_view()),
    path("v1/usage", figures.UsageView.as_view()),
    path("v1/analytics/summary", figures.SummaryView.as_view()),
    path("v1/analytics/timeseries", figures.SeriesView.as_view()),
    path("v1/analytics/models", figures.ModelsView.as_view()),
    path("v1/projects", projects.ProjectsView.as_view()),
    path("v1/projects/<uuid:project_id>", projects.ProjectView.as_view()),
    path("v1/keys", keys.KeysView.as_view()),
    path("v1/keys/<uuid:key_id>", keys.KeyView.as_view()),
    path("v1/keys/<uuid:key_id>/rotate", keys.RotateKeyView.as_view()),
]
#: Under the one address that each has in the documentation.
DOCUMENTED = [*_routes(BASES[0]), *_STATE]

urlpatterns = [
    *DOCUMENTED,
    *(pattern for base in BASES[1:] for pattern in _routes(base)),
    # The longest first, for one ends like another.
    *(
        re_path(rf"^{_DEPLOYED}(?P<model>[\s\S]+){route}\Z", view.as_view())
        for route, view in _VIEWS.items()
        if view is not calls.ModelsView
    ),
]
