"""What can be wrong with a key, on top of the common refusals (tenants/errors.py).

Conflict
├── KeyRevoked        revoked for good; `facts` has `revoked_at`
└── ManagedByConfig   the configuration file owns it
"""

from datetime import datetime

from tenants.errors import Conflict


class KeyRevoked(Conflict):
    code = "key_revoked"

    def __init__(self, revoked_at: datetime) -> None:
        moment = revoked_at.isoformat().replace("+00:00", "Z")
        super().__init__(f"The key was revoked at {moment}.", facts={"revoked_at": moment})


class ManagedByConfig(Conflict):
    code = "managed_by_config"

    def __init__(self) -> None:
        super().__init__("This key is managed by the configuration file; change it there.")
