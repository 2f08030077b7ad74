"""What can be wrong with a provider, on top of the common refusals (tenants/errors.py).

ServiceError
├── Conflict
│   └── ProviderInUse            models route to it; `facts` names some
└── Unavailable
    └── CredentialUnreadable     the sealed credential does not open: 503 for this provider, nobody else
"""

from tenants.errors import Conflict, Unavailable


class ProviderInUse(Conflict):
    code = "provider_in_use"


class CredentialUnreadable(Unavailable):
    code = "credential_unreadable"

    def __init__(self) -> None:
        super().__init__("The stored credential of this provider cannot be read; enter it again.")
