"""Who is here: tenants and what they group by, people and their roles; and what was decided (audit, configuration changes)."""

from tenants.models.audit import AuditEvent, AuditHead, AuditPrune
from tenants.models.base import (
    BUDGETS,
    MAX_BUDGET_NANO,
    MAX_REQUESTS,
    MAX_TOKENS,
    MONEY_BUDGETS,
    TOKEN_BUDGETS,
    Identified,
    Limited,
    limit_check,
    limit_checks,
)
from tenants.models.config import ConfigRevision
from tenants.models.keeping import ConfigChange, Duty, RootSecret
from tenants.models.people import (
    Invitation,
    Membership,
    ServiceToken,
    Session,
    SignInTry,
    SpentTicket,
    User,
    UserManager,
)
from tenants.models.settings import Setting
from tenants.models.tenancy import Account, Project, Tenant

__all__ = [
    "BUDGETS",
    "MAX_BUDGET_NANO",
    "MAX_REQUESTS",
    "MAX_TOKENS",
    "MONEY_BUDGETS",
    "TOKEN_BUDGETS",
    "Account",
    "AuditEvent",
    "AuditHead",
    "AuditPrune",
    "ConfigChange",
    "ConfigRevision",
    "Duty",
    "Identified",
    "Invitation",
    "Limited",
    "Membership",
    "Project",
    "RootSecret",
    "ServiceToken",
    "Session",
    "Setting",
    "SignInTry",
    "SpentTicket",
    "Tenant",
    "User",
    "UserManager",
    "limit_check",
    "limit_checks",
]
