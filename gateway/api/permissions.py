"""Who may do what. `urls.py` names one of these for every method of every route; what is not named is refused.

What each role is for stands in tenants/roles.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from gateway.api.errors import PasswordChangeRequired
from tenants import roles
from tenants.models import User

if TYPE_CHECKING:  # DRF reads this module while it makes that class.
    from rest_framework.views import APIView


@dataclass(frozen=True, slots=True)
class Access:
    """The roles that a method of a route is open to; `public`: to everybody; `unfinished`: also while a new password is due."""

    roles: frozenset[str]
    public: bool = False
    unfinished: bool = False


PUBLIC: Final = Access(frozenset(), public=True)
ONESELF: Final = Access(roles.READERS, unfinished=True)
READERS: Final = Access(roles.READERS)
CHANGERS: Final = Access(roles.CHANGERS)
AUDITORS: Final = Access(roles.AUDITORS)


def method_of(request: Request) -> str:
    """HEAD is a GET without its body."""
    return "GET" if request.method == "HEAD" else str(request.method)


class OperatorPermission(BasePermission):
    """Asks the table; what stands nowhere is refused."""

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
        user = request.user
        if not isinstance(user, User):
            raise NotAuthenticated
        if not taken:
            return True
        if access is None or user.role not in access.roles:
            return False
        if user.must_change_password and not access.unfinished:
            raise PasswordChangeRequired
        return True
