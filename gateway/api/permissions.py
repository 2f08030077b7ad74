"""Who may do what. `urls.py` names one of these for every method of every route; what is not named is refused.

What each role is for stands in tenants/roles.py, what service tokens can be for in tenants/service_tokens.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from gateway.api.errors import PasswordChangeRequired, SessionRequired
from gateway.api.principals import Principal
from gateway.api.reach import EVERYTHING, Reach
from tenants import roles
from tenants.service_tokens import AUDIT, PEOPLE, READ, WRITE

if TYPE_CHECKING:  # DRF reads this module while it makes that class.
    from rest_framework.views import APIView


@dataclass(frozen=True, slots=True)
class Access:
    """Whom a method of a route is open to.

    `roles` of the house's staff reach every tenant there. `members` are roles in a tenant: they reach that tenant alone.
    `scope` is what a service token needs for it; without one it is closed to service tokens. `session`: only for who signed in
    with a password. `public`: to everybody; `unfinished`: also while a new password is due.
    """

    roles: frozenset[str]
    members: frozenset[str] = frozenset()
    scope: str = ""
    session: bool = False
    public: bool = False
    unfinished: bool = False

    def reach_of(self, principal: Principal) -> Reach | None:
        """Whose rows it opens to somebody; null if none. Scopes and sessions aside."""
        if principal.role in self.roles:
            return EVERYTHING
        places = principal.memberships.items()
        tenants = frozenset(tenant for tenant, role in places if role in self.members)
        return Reach(tenants) if tenants else None


PUBLIC: Final = Access(frozenset(), public=True)
#: What is about the caller's own sign-in.
ONESELF: Final = Access(roles.READERS, members=roles.MEMBERS, session=True, unfinished=True)
READERS: Final = Access(roles.READERS, scope=READ)
CHANGERS: Final = Access(roles.CHANGERS, scope=WRITE)
AUDITORS: Final = Access(roles.AUDITORS, scope=AUDIT)
OWNERS: Final = Access(roles.OWNERS, scope=WRITE)
#: Backups: no service token, for one can bring owners with it, and whatever a token may not do.
HOUSEHOLDERS: Final = Access(roles.OWNERS)
#: Staff and their accounts: the house's owners.
STAFF: Final = Access(roles.OWNERS, scope=PEOPLE)
#: What somebody sees of their own, and owners of the house of everybody.
OWN_SESSIONS: Final = Access(roles.READERS, members=roles.MEMBERS, scope=PEOPLE)
OWN_TOKENS: Final = Access(roles.READERS, scope=PEOPLE)
TOKEN_MAKERS: Final = Access(roles.READERS, session=True)
#: A tenant's people see what is their tenant's; its owners change it.
MEMBERS_READ: Final = Access(roles.READERS, members=roles.MEMBERS, scope=READ)
MEMBER_OWNERS_READ: Final = Access(roles.READERS, members=roles.MEMBER_OWNERS, scope=PEOPLE)
MEMBERS_PEOPLE: Final = Access(roles.READERS, members=roles.MEMBERS, scope=PEOPLE)
MEMBER_OWNERS_INVITE: Final = Access(roles.CHANGERS, members=roles.MEMBER_OWNERS, scope=PEOPLE)
MEMBER_OWNERS_CHANGE: Final = Access(roles.CHANGERS, members=roles.MEMBER_OWNERS, scope=WRITE)


def method_of(request: Request) -> str:
    """HEAD is a GET without its body."""
    return "GET" if request.method == "HEAD" else str(request.method)


class OperatorPermission(BasePermission):
    """Asks the table; what stands nowhere is refused."""

    #: What the refusal is called.
    code = "forbidden"

    def has_permission(self, request: Request, view: "APIView") -> bool:
        table: Mapping[str, Access] = getattr(view, "access", {})
        method = method_of(request)
        access = table.get(method)
        if access is not None and access.public:
            return True
        # Where there is no such method the answer to come is 405; on a closed route it too is for those we know.
        taken = method in view.allowed_methods
        if not taken and any(other.public for other in table.values()):
            return True
        principal = request.user
        if not isinstance(principal, Principal):
            raise NotAuthenticated
        if not taken:
            return True
        if access is None or access.reach_of(principal) is None:
            return False
        return self._has_the_means(principal, access)

    def _has_the_means(self, principal: Principal, access: Access) -> bool:
        """The right is there; is it come by in a way that the route takes?"""
        if access.session and principal.session is None:
            raise SessionRequired
        if not access.session and not principal.has_scope(access.scope):
            self.code = "scope_missing"
            return False
        if principal.must_change_password and not access.unfinished:
            raise PasswordChangeRequired
        return True
