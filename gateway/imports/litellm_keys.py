"""LiteLLM's tables: keys by the SHA-256 that it keeps of them, teams as projects, users with a budget as accounts.

Source of names and meanings: schema.prisma and the proxy's own checks, LiteLLM 1.110.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

from gateway.imports import amounts, budgets
from gateway.imports.budgets import Budget
from gateway.imports.files import Row
from gateway.imports.model_lists import EVERYTHING, Names, both
from gateway.imports.plan import Plan, PlannedGroup, Used
from keys import importing
from tenants.errors import Invalid
from tenants.models import MAX_REQUESTS, MAX_TOKENS
from tenants.validation import team as team_rule

KEYS: Final = "LiteLLM_VerificationToken"
TEAMS: Final = "LiteLLM_TeamTable"
USERS: Final = "LiteLLM_UserTable"
BUDGETS: Final = "LiteLLM_BudgetTable"
#: Tables of which something may have to be said, though nothing of them comes here.
_OTHERS: Final = {
    "LiteLLM_OrganizationTable": (
        ("organization_alias", "organization_id"),
        "organizations are tenants here: import each one's keys with --tenant; its budget and models do not come along.",
    ),
    "LiteLLM_ProjectTable": (
        ("project_alias", "project_id"),
        "a project here is what a team is there; limits and models of projects do not come along.",
    ),
    "LiteLLM_ProxyModelTable": (
        ("model_name", "model_id"),
        "its parameters are encrypted; write it into config.yaml.",
    ),
    "LiteLLM_DeprecatedVerificationToken": (
        ("active_token_id", "token"),
        "was rotated there and in its grace; the old one does not come along.",
    ),
    "LiteLLM_EndUserTable": (
        ("alias", "user_id"),
        "budgets of a caller's own users do not come along.",
    ),
}
_MEMBERSHIPS: Final = "LiteLLM_TeamMembership"
TABLES: Final = (KEYS, TEAMS, USERS, BUDGETS, _MEMBERSHIPS, *_OTHERS)

_LIMITS: Final = {
    "rpm_limit": ("rate_limit_rpm", MAX_REQUESTS),
    "tpm_limit": ("rate_limit_tpm", MAX_TOKENS),
    "tpd_limit": ("tokens_budget_day", MAX_TOKENS),
    "max_parallel_requests": ("max_concurrency", MAX_REQUESTS),
}
#: Columns that a budget of its own table fills in where the key says nothing.
_OF_A_BUDGET: Final = (*_LIMITS, "max_budget", "budget_duration", "budget_reset_at")
_READ: Final = frozenset(
    (
        *("token", "key_name", "key_alias", "spend", "expires", "models", "user_id", "team_id"),
        *("blocked", "budget_id", *_OF_A_BUDGET),
    )
)
#: Notes of LiteLLM to itself, and switches that change nothing of what a caller may do.
_NEEDS_NOTHING: Final = frozenset(
    (
        *("total_spend", "soft_budget_cooldown", "created_at", "created_by", "updated_at"),
        *("updated_by", "settings_updated_at", "last_active", "rotation_count", "model_spend"),
        *("last_rotation_at", "key_rotation_at", "team_alias", "user_email", "key_type"),
        *("router_settings", "organization_id", "project_id", "rotation_interval"),
        *("allowed_cache_controls", "litellm_budget_table", "token_id", "user"),
    )
)
_OFF: Final = (False, 0, "f", "false")
_DASHBOARD: Final = "litellm-dashboard"
_ANY_CALL: Final = ["llm_api_routes"]
_PROXY, _TEAM, _NONE = "all-proxy-models", "all-team-models", "no-default-models"


class _Team(NamedTuple):
    is_stopped: bool
    models: Names
    label: str


def read(
    plan: Plan, tables: Mapping[str, Sequence[Row]], groups: Mapping[str, list[str]], now: datetime
) -> None:
    """Into the plan. `groups`: names that stand for several models (access groups), which only the configuration tells."""
    _Reader(plan, tables, groups, now).read()


class _Reader:
    def __init__(
        self,
        plan: Plan,
        tables: Mapping[str, Sequence[Row]],
        groups: Mapping[str, list[str]],
        now: datetime,
    ) -> None:
        self._plan, self._tables, self._groups, self._now = plan, tables, groups, now
        self._budgets = {row.values.get("budget_id"): row.values for row in self._rows(BUDGETS)}
        self._users = {str(row.values.get("user_id")): row for row in self._rows(USERS)}
        self._teams: dict[str, _Team] = {}
        self._bad_teams: set[str] = set()
        self._sessions = 0
        self._unpaid: set[str] = set()

    def _rows(self, table: str) -> Sequence[Row]:
        return self._tables.get(table, ())

    def read(self) -> None:
        shared = Counter(str(row.values.get("team_alias")).lower() for row in self._rows(TEAMS))
        for row in self._rows(TEAMS):
            with self._faults(row):
                self._team(row, shared)
            if str(row.values.get("team_id")) not in self._teams:
                self._bad_teams.add(str(row.values.get("team_id")))
        for row in self._rows(KEYS):
            with self._faults(row):
                self._key(row)
        if self._sessions:
            self._plan.leave("dashboard", f"{self._sessions} sessions", "are no keys.")
        if self._unpaid:
            self._plan.leave(
                "users",
                f"{len(self._unpaid)} without a budget",
                "accounts here are prepaid, so their keys belong to none.",
            )
        self._others()

    def _faults(self, row: Row) -> "_Noted":
        return _Noted(self._plan, row.where)

    # --- teams

    def _team(self, row: Row, shared: Mapping[str, int]) -> None:
        values = row.values
        reference = str(values.get("team_id") or "")
        alias = str(values.get("team_alias") or "").strip()
        name = alias or reference
        if alias and shared[alias.lower()] > 1:
            name = f"{alias} ({reference[:8]})"
        whose = f"team {name}"
        fields, stops = self._limits(whose, values)
        budget = budgets.read(self._plan, whose, values, self._now)
        is_stopped = stops or budget.stops or bool(amounts.truth("blocked", values.get("blocked")))
        self._leave(whose, values, ("soft_budget", "model_max_budget", "budget_limits"))
        self._leave(whose, values, ("policies", "access_group_ids", "object_permission_id"))
        self._leave_names(whose, "metadata", values)
        models = self._names(values.get("models"), EVERYTHING)
        self._teams[reference] = _Team(is_stopped, models, _label(alias) or _label(reference))
        self._plan.projects[reference] = PlannedGroup(
            name, {**fields, **budget.fields}, budget.used
        )

    # --- keys

    def _key(self, row: Row) -> None:
        values = dict(row.values)
        if values.get("team_id") == _DASHBOARD:
            self._sessions += 1
            return
        digest = _digest(values.get("token"))
        shown = importing.shown_part(digest, str(values.get("key_name") or ""))
        name = str(values.get("key_alias") or shown)
        whose = f"key {name}"
        if values.get("key_type") in ("management", "read_only"):
            self._plan.leave(whose, f"key_type {values['key_type']}", "it calls no model.")
            return
        self._fill_in(whose, values)
        fields, stops = self._limits(whose, values)
        budget = budgets.read(self._plan, whose, values, self._now)
        team = self._team_of(whose, values)
        account, of_user = self._account(values)
        models = both(self._names(values.get("models"), team.models), team.models)
        models = both(models, of_user)
        blocked = bool(amounts.truth("blocked", values.get("blocked")))
        if models == []:
            self._plan.leave(whose, "models", "allow none, so it comes as paused.")
        self._leave_unread(whose, values)
        self._plan.add_key(
            row.where,
            digest,
            {
                "name": name,
                "team": team.label,
                "allowed_models": models or None,
                "is_active": not (blocked or stops or budget.stops or team.is_stopped)
                and models != [],
                "expires_at": amounts.moment("expires", values.get("expires")),
                **fields,
                **budget.fields,
            },
            shown=shown,
            project=str(values.get("team_id") or "")
            if values.get("team_id") in self._teams
            else "",
            account=account,
            used=budget.used,
        )

    def _fill_in(self, whose: str, values: dict[str, Any]) -> None:
        """What the key's budget says where the key itself says nothing."""
        budget = self._budgets.get(values.get("budget_id"))
        if values.get("budget_id") and budget is None:
            self._plan.leave(whose, f"budget {values['budget_id']}", "is not in these tables.")
        for name in _OF_A_BUDGET if budget else ():
            if amounts.is_nothing(values.get(name)):
                values[name] = (budget or {}).get(name)
        self._leave(whose, budget or {}, ("soft_budget", "model_max_budget"))

    def _limits(self, whose: str, values: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Limits of ours, and whether one of them lets nothing through."""
        found, nothing, unbounded = amounts.limits(values, _LIMITS)
        for name in nothing:
            self._plan.leave(whose, name, "of 0 lets nothing through, so it comes as paused.")
        for name in unbounded:
            self._plan.leave(whose, name, "is more than any limit here, so it is none.")
        if "rate_limit_rpm" in found:
            # There a minute's requests may come at once.
            found["burst"] = found["rate_limit_rpm"]
        return dict(found), bool(nothing)

    def _team_of(self, whose: str, values: Mapping[str, Any]) -> _Team:
        reference = values.get("team_id")
        if not reference:
            return _Team(False, EVERYTHING, "")
        if str(reference) in self._bad_teams:
            # Without it the key would be let do more than it was.
            raise Invalid.field("team_id", "its team cannot be taken.")
        team = self._teams.get(str(reference))
        if team is None:
            self._plan.leave(whose, f"team {reference}", "is not in these tables.")
            return _Team(False, EVERYTHING, _label(str(reference)))
        return team

    def _account(self, values: Mapping[str, Any]) -> tuple[str, Names]:
        """The account of a key's user, and the models that the user may use. A key of a team is the team's to pay, there too."""
        reference = str(values.get("user_id") or "")
        row = None if values.get("team_id") else self._users.get(reference)
        if row is None:
            return "", EVERYTHING
        models = self._names(row.values.get("models"), EVERYTHING)
        if reference not in self._plan.accounts:
            whose = f"user {reference}"
            budget = budgets.read(self._plan, whose, row.values, self._now)
            if budget.most is None and not budget.stops:
                limits = [name for name in _LIMITS if not amounts.is_nothing(row.values.get(name))]
                for name in limits if reference not in self._unpaid else ():
                    self._plan.leave(whose, name, "its user has no budget, so there is no account.")
                self._unpaid.add(reference)
                return "", models
            self._plan.accounts[reference] = self._paid(whose, reference, row.values, budget)
        return reference, models

    def _paid(
        self, whose: str, reference: str, values: Mapping[str, Any], budget: Budget
    ) -> PlannedGroup:
        fields, _ = self._limits(whose, values)
        spent = [Used("prepaid", each.nano_usd) for each in budget.used]
        if budget.renews:
            self._plan.leave(
                whose,
                f"budget_duration {values.get('budget_duration')}",
                "accounts here are prepaid: what is left of this period is paid in; `balance top-up` pays in more.",
            )
            fields |= budget.fields
            spent += budget.used
        return PlannedGroup(reference, fields, spent, budget.most or 0)

    # --- models

    def _names(self, value: object, of_team: Names) -> Names:
        """A list of ours: None is everything, an empty one nothing."""
        names = amounts.texts("models", value)
        if not names or _PROXY in names:
            return EVERYTHING
        if _TEAM in names:
            return of_team
        found: list[str] = []
        for name in names:
            if name != _NONE:
                found += self._groups.get(name, [name])
        return EVERYTHING if "*" in found else list(dict.fromkeys(found))

    # --- what does not come along

    def _leave(self, whose: str, values: Mapping[str, Any], names: Sequence[str]) -> None:
        for name in names:
            if not amounts.is_nothing(values.get(name)):
                self._plan.leave(whose, name, "has no place here.")

    def _leave_names(self, whose: str, column: str, values: Mapping[str, Any]) -> None:
        """The members of an object by their names: their values may be anybody's secrets."""
        for name, value in amounts.mapping(column, values.get(column)).items():
            if not amounts.is_nothing(value):
                self._plan.leave(whose, f"{column}.{name}"[:128], "has no place here.")

    def _leave_unread(self, whose: str, values: Mapping[str, Any]) -> None:
        self._leave_names(whose, "metadata", values)
        routes = amounts.texts("allowed_routes", values.get("allowed_routes"))
        if routes and routes != _ANY_CALL:
            self._plan.leave(whose, "allowed_routes", "a key here may call every kind of model.")
        known = _READ | _NEEDS_NOTHING | {"metadata", "allowed_routes"}
        unread = [name for name in values if name not in known and values[name] not in _OFF]
        self._leave(whose, values, unread)

    def _others(self) -> None:
        for table, (names, why) in _OTHERS.items():
            for row in self._rows(table):
                name = next((str(row.values[it]) for it in names if row.values.get(it)), row.where)
                self._plan.leave(table.removeprefix("LiteLLM_").removesuffix("Table"), name, why)
        for row in self._rows(_MEMBERSHIPS):
            if row.values.get("budget_id"):
                whose = f"user {row.values.get('user_id')} in team {row.values.get('team_id')}"
                self._plan.leave(
                    whose, "budget_id", "a member's part of a team's budget has no place here."
                )


class _Noted:
    """What is wrong with a row is a fault of the plan."""

    def __init__(self, plan: Plan, where: str) -> None:
        self._plan, self._where = plan, where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, fault: object, trace: object) -> bool:
        if isinstance(fault, Invalid):
            self._plan.fault(self._where, fault)
            return True
        return False


def _digest(token: object) -> bytes:
    """What LiteLLM keeps of a key; very old rows have the key itself."""
    if isinstance(token, str) and token.startswith("sk-"):
        return sha256(token.encode()).digest()
    return importing.read_sha256("token", token)


def _label(alias: str) -> str:
    try:
        return team_rule("team", alias)
    except Invalid:
        return ""
