"""The four roles of the house's staff, and what each set of them is for: the admin API and the console ask the same sets.

owner > operator (change configuration) > auditor (reads, and reads the audit log), viewer (reads)
"""

from typing import Final

from tenants.models import User

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
