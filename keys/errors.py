"""What can be wrong with a key, on top of the common refusals (tenants/errors.py).

ServiceError
├── Conflict
│   ├── KeyRevoked        revoked for good; `facts` has `revoked_at`
│   └── ManagedByConfig   the configuration file owns it
├── BeyondGrant           a key would give, or get hold of, more than it may itself
└── TooManyChanges        by one key in a short time
"""

from collections.abc import Sequence
from datetime import datetime

from tenants.errors import Conflict, ServiceError


class KeyRevoked(Conflict):
    code = "key_revoked"

    def __init__(self, revoked_at: datetime) -> None:
        moment = revoked_at.isoformat().replace("+00:00", "Z")
        super().__init__(f"The key was revoked at {moment}.", facts={"revoked_at": moment})


class ManagedByConfig(Conflict):
    code = "managed_by_config"

    def __init__(self) -> None:
        super().__init__("This key is managed by the configuration file; change it there.")


class BeyondGrant(ServiceError):
    code = "grants_exceeded"

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__(
            f"This would go beyond what your own key may, in: {', '.join(fields)}.",
            fields=dict.fromkeys(fields, "goes beyond your own key's."),
        )


class TooManyChanges(ServiceError):
    code = "rate_limit_exceeded"

    def __init__(self) -> None:
        super().__init__("This key has made too many changes in the last minute; wait a little.")
