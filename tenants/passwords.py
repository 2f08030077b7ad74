"""How people's passwords are hashed. Keys are not passwords: see keys/tokens.py."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class Argon2Hasher(Argon2PasswordHasher):
    """Argon2id with 64 MiB, two passes, one lane: above OWASP's floor (19 MiB, 2, 1), fit for small machines."""

    time_cost = 2
    memory_cost = 65536
    parallelism = 1
