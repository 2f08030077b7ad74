"""The four roles of the house's staff, and what each set of them is for: the admin API and the console ask the same sets.

owner > operator (change configuration) > auditor (reads, and reads the audit log), viewer (reads)

A tenant's people are no staff. An owner of a tenant changes what is its own, a member reads it.
"""

from typing import Final

from tenants.models import Membership, User

#: From the one that may most.
ORDER: Final = tuple(role for role in User.Role.values if role)
READERS: Final = frozenset(
    {
        User.Role.OWNER.value,
        User.Role.OPERATOR.value,
        User.Role.AUDITOR.value,
        User.Role.VIEWER.value,
    }
)
CHANGERS: Final = frozenset({User.Role.OWNER.value, User.Role.OPERATOR.value})
AUDITORS: Final = frozenset({User.Role.OWNER.value, User.Role.AUDITOR.value})
OWNERS: Final = frozenset({User.Role.OWNER.value})
#: A tenant's people: all of them, and those who decide.
MEMBER_ORDER: Final = tuple(Membership.Role.values)
MEMBERS: Final = frozenset({Membership.Role.OWNER.value, Membership.Role.MEMBER.value})
MEMBER_OWNERS: Final = frozenset({Membership.Role.OWNER.value})
