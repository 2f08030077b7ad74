"""Who signs in: people, their places in tenants, and their sessions."""

import uuid
from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint
from django.db.models.functions import Lower, Now

from tenants.models.base import Identified
from tenants.models.tenancy import Tenant


class UserManager(BaseUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(username__iexact=username)


class User(AbstractBaseUser):
    """A person who signs in: staff of the house by `role`, or a tenant's person by a membership."""

    class Role(models.TextChoices):
        OWNER = "owner"
        OPERATOR = "operator"
        AUDITOR = "auditor"
        VIEWER = "viewer"
        NONE = "", "none"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    username = models.CharField(max_length=128, unique=True)
    email = models.EmailField(blank=True, default="")
    role = models.CharField(max_length=16, choices=Role, blank=True, default=Role.NONE)
    is_active = models.BooleanField(default=True)
    must_change_password = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    USERNAME_FIELD = "username"
    objects = UserManager()

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(Lower("username"), name="user_username_any_case"),
            CheckConstraint(
                condition=Q(role__in=["owner", "operator", "auditor", "viewer", ""]),
                name="user_role",
            ),
        ]

    def __str__(self) -> str:
        return self.username

    @property
    def is_staff(self) -> bool:
        return bool(self.role)

    @property
    def is_superuser(self) -> bool:
        return self.role == self.Role.OWNER


class Membership(Identified):
    """A person's place in a tenant."""

    class Role(models.TextChoices):
        OWNER = "owner"
        MEMBER = "member"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role, default=Role.MEMBER)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["tenant", "user"], name="membership_once"),
            CheckConstraint(condition=Q(role__in=["owner", "member"]), name="membership_role"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.tenant_id}"


class Session(Identified):
    """A signed-in operator. Without a live row neither a token nor a cookie opens anything.

    The admin API's token names the row by its id (`jti`). The console's cookie is an opaque value of which only the hash is
    kept; such a session also ends when it was idle for long, and `expires_at` is its end in any case.
    """

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sessions")
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, default=None)
    address = models.CharField(max_length=64, blank=True, default="")
    user_agent = models.CharField(max_length=256, blank=True, default="")
    cookie_hash = models.BinaryField(max_length=32, null=True, default=None, unique=True)
    idle_ends_at = models.DateTimeField(null=True, default=None)
    #: What the next page shows once ("Saved."). Never anything secret.
    data = models.JSONField(null=True, default=None)

    def __str__(self) -> str:
        return str(self.id)


class ServiceToken(Identified):
    """An operator's `gwa_` credential for programs. It can do what it was made for, and never more than its maker can today.

    Of the token itself there is only an HMAC under a pepper, which is also what it is found by.
    """

    created_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="service_tokens")
    name = models.CharField(max_length=128)
    scopes = models.JSONField()
    fingerprint = models.BinaryField(max_length=32, unique=True)
    pepper_version = models.PositiveIntegerField()
    prefix = models.CharField(max_length=16)
    expires_at = models.DateTimeField(null=True, default=None)
    last_used_at = models.DateTimeField(null=True, default=None)
    revoked_at = models.DateTimeField(null=True, default=None)

    def __str__(self) -> str:
        return f"{self.prefix}… {self.name}"


class Invitation(Identified):
    """Lets so many people into a tenant until some day, whoever has its secret; of that only the hash is here."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="invitations")
    role = models.CharField(max_length=16, choices=Membership.Role, default=Membership.Role.MEMBER)
    email = models.EmailField(blank=True, default="")
    secret_hash = models.BinaryField(max_length=32, unique=True)
    max_uses = models.PositiveIntegerField(default=1)
    uses = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, default=None)
    created_by_type = models.CharField(max_length=32)
    created_by_id = models.CharField(max_length=64)
    created_by_label = models.CharField(max_length=128)

    class Meta:
        constraints: ClassVar = [
            CheckConstraint(condition=Q(role__in=["owner", "member"]), name="invitation_role"),
            CheckConstraint(condition=Q(uses__lte=models.F("max_uses")), name="invitation_uses"),
        ]

    def __str__(self) -> str:
        return f"{self.role} of {self.tenant_id}"


class SignInTry(models.Model):
    """Somebody tried to sign in, a moment ago. Kept for a quarter of an hour (tenants/tries.py)."""

    tried_at = models.DateTimeField()
    door = models.CharField(max_length=16)
    address = models.CharField(max_length=64, blank=True, default="")
    name_digest = models.BinaryField(max_length=32)
    #: Null while it is being looked at.
    good = models.BooleanField(null=True, default=None)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["tried_at"], name="sign_in_try_by_time"),
            models.Index(fields=["address", "tried_at"], name="sign_in_try_by_address"),
            models.Index(fields=["name_digest"], name="sign_in_try_by_name"),
        ]

    def __str__(self) -> str:
        return f"{self.door} {self.tried_at}"


class SpentTicket(Identified):
    """A form that was carried out. The console's forms carry a ticket each; one that stands here does nothing again."""

    nonce = models.CharField(max_length=64, unique=True)
    #: Where what it did is to be seen.
    place = models.CharField(max_length=256, blank=True, default="")

    class Meta:
        indexes: ClassVar = [models.Index(fields=["created_at"], name="spent_ticket_by_time")]

    def __str__(self) -> str:
        return self.nonce
