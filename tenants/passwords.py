"""How people's passwords are hashed, and made for them. Keys are not passwords: see keys/tokens.py."""

import secrets
from typing import Final

from django.contrib.auth.hashers import Argon2PasswordHasher

#: Without what looks like something else.
_TYPEABLE: Final = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_TYPED_CHARACTERS: Final = 20


class Argon2Hasher(Argon2PasswordHasher):
    """Argon2id with 64 MiB, two passes, one lane: above OWASP's floor (19 MiB, 2, 1), fit for small machines."""

    time_cost = 2
    memory_cost = 65536
    parallelism = 1


def generated_password() -> str:
    """116 random bits that one can type."""
    return "".join(secrets.choice(_TYPEABLE) for _ in range(_TYPED_CHARACTERS))
