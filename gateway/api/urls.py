"""Every route of the admin API, and who may use which method of it."""

from django.urls import URLPattern, path

from gateway.api import (
    analytics,
    audit,
    auth,
    backup,
    config,
    holds,
    invitations,
    keys,
    logs,
    members,
    models,
    operators,
    projects,
    providers,
    sessions,
    settings,
    stores,
    tenants,
    tokens,
    users,
)
from gateway.api.door import AdminView
from gateway.api.permissions import (
    AUDITORS,
    CHANGERS,
    HOUSEHOLDERS,
    MEMBER_OWNERS_CHANGE,
    MEMBER_OWNERS_INVITE,
    MEMBER_OWNERS_READ,
    MEMBERS_PEOPLE,
    MEMBERS_READ,
    ONESELF,
    OWN_SESSIONS,
    OWN_TOKENS,
    PUBLIC,
    READERS,
    STAFF,
    TOKEN_MAKERS,
    Access,
)


def _door(route: str, view: type[AdminView], **access: Access) -> URLPattern:
    """A route without a name for each of its methods here is closed for them."""
    name = route.replace("<uuid:", "{").replace("<path:", "{").replace("<str:", "{")
    return path(route, view.as_view(access=access), name=name.replace(">", "}"))


_KEY = "keys/<uuid:key_id>"
_OPERATOR = "operators/<uuid:operator_id>"
_PROVIDER = "providers/<uuid:provider_id>"
_TENANT = "tenants/<uuid:tenant_id>"

urlpatterns = [
    _door("auth/login", auth.LoginView, POST=PUBLIC),
    _door("auth/logout", auth.LogoutView, POST=ONESELF),
    _door("auth/me", auth.MeView, GET=ONESELF),
    _door("auth/change-password", auth.ChangePasswordView, POST=ONESELF),
    _door("auth/sign-out-everywhere", auth.SignOutEverywhereView, POST=ONESELF),
    _door("auth/accept-invitation", auth.AcceptInvitationView, POST=PUBLIC),
    _door("operators", operators.OperatorsView, GET=STAFF, POST=STAFF),
    _door(_OPERATOR, operators.OperatorView, GET=STAFF, PATCH=STAFF, DELETE=STAFF),
    _door(f"{_OPERATOR}/sign-out-everywhere", operators.SignOutOperatorView, POST=STAFF),
    _door("sessions", sessions.SessionsView, GET=OWN_SESSIONS),
    _door("sessions/<uuid:session_id>", sessions.SessionView, DELETE=OWN_SESSIONS),
    _door("tokens", tokens.TokensView, GET=OWN_TOKENS, POST=TOKEN_MAKERS),
    _door("tokens/<uuid:token_id>", tokens.TokenView, GET=OWN_TOKENS, DELETE=OWN_TOKENS),
    _door(
        "invitations",
        invitations.InvitationsView,
        GET=MEMBER_OWNERS_READ,
        POST=MEMBER_OWNERS_INVITE,
    ),
    _door(
        "invitations/<uuid:invitation_id>",
        invitations.InvitationView,
        GET=MEMBER_OWNERS_READ,
        DELETE=MEMBER_OWNERS_INVITE,
    ),
    _door("tenants", tenants.TenantsView, GET=MEMBERS_READ, POST=CHANGERS),
    _door(_TENANT, tenants.TenantView, GET=MEMBERS_READ, PATCH=CHANGERS, DELETE=CHANGERS),
    _door(
        f"{_TENANT}/provider-config",
        tenants.ProviderConfigView,
        GET=MEMBERS_READ,
        PUT=MEMBER_OWNERS_CHANGE,
        DELETE=MEMBER_OWNERS_CHANGE,
    ),
    _door(
        f"{_TENANT}/members",
        members.MembersView,
        GET=MEMBERS_PEOPLE,
        POST=MEMBER_OWNERS_INVITE,
    ),
    _door(
        f"{_TENANT}/members/<uuid:member_id>",
        members.MemberView,
        GET=MEMBERS_PEOPLE,
        PATCH=MEMBER_OWNERS_INVITE,
        DELETE=MEMBER_OWNERS_INVITE,
    ),
    _door(f"{_TENANT}/api-keys", keys.TenantKeysView, GET=MEMBERS_READ, POST=MEMBER_OWNERS_CHANGE),
    _door(f"{_TENANT}/api-keys/<uuid:key_id>", keys.TenantKeyView, DELETE=MEMBER_OWNERS_CHANGE),
    _door("keys", keys.KeysView, GET=MEMBERS_READ),
    _door(_KEY, keys.KeyView, GET=MEMBERS_READ, PATCH=MEMBER_OWNERS_CHANGE),
    _door(f"{_KEY}/rotate", keys.RotateKeyView, POST=MEMBER_OWNERS_CHANGE),
    _door(f"{_KEY}/revoke", keys.RevokeKeyView, POST=MEMBER_OWNERS_CHANGE),
    _door(f"{_KEY}/usage", keys.KeyUsageView, GET=MEMBERS_READ),
    _door("projects", projects.ProjectsView, GET=MEMBERS_READ, POST=MEMBER_OWNERS_CHANGE),
    _door(
        "projects/<uuid:project_id>",
        projects.ProjectView,
        GET=MEMBERS_READ,
        PATCH=MEMBER_OWNERS_CHANGE,
        DELETE=MEMBER_OWNERS_CHANGE,
    ),
    _door("users", users.UsersView, GET=MEMBERS_READ, POST=CHANGERS),
    _door(
        "users/<uuid:user_id>", users.UserView, GET=MEMBERS_READ, PATCH=CHANGERS, DELETE=CHANGERS
    ),
    _door("users/<uuid:user_id>/top-up", users.TopUpView, POST=CHANGERS),
    _door("providers", providers.ProvidersView, GET=READERS, POST=CHANGERS),
    _door(_PROVIDER, providers.ProviderView, GET=READERS, PATCH=CHANGERS, DELETE=CHANGERS),
    _door(f"{_PROVIDER}/rotate-credential", providers.RotateCredentialView, POST=CHANGERS),
    _door(f"{_PROVIDER}/test", providers.TestProviderView, POST=CHANGERS),
    _door(f"{_PROVIDER}/import-models", providers.ImportModelsView, POST=CHANGERS),
    _door("models", models.ModelsView, GET=READERS, POST=CHANGERS),
    _door("models/<path:model_id>/simulate", models.SimulateView, POST=READERS),
    _door("models/<path:model_id>", models.ModelView, GET=READERS, PATCH=CHANGERS, DELETE=CHANGERS),
    _door("stores", stores.StoresView, GET=MEMBERS_READ, POST=MEMBER_OWNERS_CHANGE),
    _door(
        "stores/<uuid:store_id>",
        stores.StoreView,
        GET=MEMBERS_READ,
        PATCH=MEMBER_OWNERS_CHANGE,
        DELETE=MEMBER_OWNERS_CHANGE,
    ),
    _door("stats", analytics.StatsView, GET=MEMBERS_READ),
    _door("analytics/summary", analytics.SummaryView, GET=MEMBERS_READ),
    _door("analytics/timeseries", analytics.SeriesView, GET=MEMBERS_READ),
    _door("analytics/models", analytics.ModelsView, GET=MEMBERS_READ),
    _door("holds", holds.HoldsView, GET=MEMBERS_READ),
    _door("holds/slices", holds.SlicesView, GET=READERS),
    _door("logs", logs.LogsView, GET=MEMBERS_READ),
    _door("logs/<str:request_id>", logs.LogView, GET=MEMBERS_READ),
    _door("logs/<str:request_id>/content", logs.ContentView, GET=AUDITORS),
    _door("audit", audit.AuditView, GET=AUDITORS),
    _door("audit/verify", audit.VerifyView, GET=AUDITORS),
    _door("audit/export", audit.ExportView, GET=AUDITORS),
    _door("settings", settings.SettingsView, GET=READERS, PATCH=CHANGERS),
    _door("config/plan", config.PlanView, POST=CHANGERS),
    _door("config/apply", config.ApplyView, POST=CHANGERS),
    _door("config/rollback", config.RollbackView, POST=CHANGERS),
    _door("config/revisions", config.RevisionsView, GET=CHANGERS),
    _door("config/export", config.ExportView, GET=CHANGERS),
    _door("backup/export", backup.ExportView, GET=HOUSEHOLDERS),
    _door("backup/import", backup.ImportView, POST=HOUSEHOLDERS),
]
