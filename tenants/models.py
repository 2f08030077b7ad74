"""Who is here: tenants and what they group by, people and their roles; and what was decided (audit, configuration changes)."""

import uuid
from typing import Any, ClassVar, Final

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint
from django.db.models.functions import Lower, Now

from tenants.limits import BudgetLimit, LimitSet, Rate, Unit, Window, read_rate
from usage import money

MAX_REQUESTS = 10**6


def limit_check(field: str, name: str, most: int) -> CheckConstraint:
    """A limit is null (none) or between 1 and `most`, in the database as well."""
    return CheckConstraint(
        condition=Q(**{f"{field}__isnull": True})
        | Q(**{f"{field}__gte": 1, f"{field}__lte": most}),
        name=name,
    )


class Identified(models.Model):
    """A row whose id is made here, before the insert: sealing binds to it, and no database hands out guessable ones."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        abstract = True


#: Requests, tokens, and nano-USD that a limit may say at most.
MAX_TOKENS = 10**12
MAX_BUDGET_NANO = 10**18
#: Budget columns: which unit, and over which window of the calendar.
BUDGETS: Final[dict[str, tuple[Unit, Window]]] = {
    "tokens_budget": ("tokens", "month"),
    "tokens_budget_day": ("tokens", "day"),
    "tokens_budget_total": ("tokens", "total"),
    "cost_budget_nano": ("nano_usd", "month"),
    "cost_budget_day_nano": ("nano_usd", "day"),
    "cost_budget_total_nano": ("nano_usd", "total"),
}
TOKEN_BUDGETS: Final = tuple(name for name, (unit, _) in BUDGETS.items() if unit == "tokens")
MONEY_BUDGETS: Final = tuple(name for name, (unit, _) in BUDGETS.items() if unit == "nano_usd")


def _usd_of(column: str) -> property:
    """An amount by the contract's name: a decimal string of USD where the column holds nano-USD, null where it is null."""

    def read(row: models.Model) -> str | None:
        nano = getattr(row, column)
        return None if nano is None else money.usd_text(nano)

    def write(row: models.Model, usd: str | None) -> None:
        setattr(row, column, None if usd is None else money.parse_usd(usd))

    return property(read, write)


class Limited(models.Model):
    """A row that can limit the calls that belong to it. Null: no limit of that sort."""

    rate_limits = models.JSONField(null=True, default=None)
    rate_limit_rpm = models.BigIntegerField(null=True, default=None)
    daily_limit = models.BigIntegerField(null=True, default=None)
    burst = models.BigIntegerField(null=True, default=None)
    rate_limit_tpm = models.BigIntegerField(null=True, default=None)
    max_concurrency = models.BigIntegerField(null=True, default=None)
    tokens_budget = models.BigIntegerField(null=True, default=None)
    tokens_budget_day = models.BigIntegerField(null=True, default=None)
    tokens_budget_total = models.BigIntegerField(null=True, default=None)
    cost_budget_nano = models.BigIntegerField(null=True, default=None)
    cost_budget_day_nano = models.BigIntegerField(null=True, default=None)
    cost_budget_total_nano = models.BigIntegerField(null=True, default=None)
    clamp_to_budget = models.BooleanField(default=False)

    cost_budget_usd = _usd_of("cost_budget_nano")
    cost_budget_day_usd = _usd_of("cost_budget_day_nano")
    cost_budget_total_usd = _usd_of("cost_budget_total_nano")

    class Meta:
        abstract = True

    @property
    def limit_set(self) -> LimitSet:
        """What this row says. A text among the rates that means nothing is none; the services let none in."""
        texts = [read_rate(text) for text in self.rate_limits or ()]
        rates = [rate for rate in texts if rate is not None]
        if self.rate_limit_rpm is not None:
            rates.insert(0, Rate(self.rate_limit_rpm, 60))
        return LimitSet(
            rates=tuple(rates),
            daily=self.daily_limit,
            burst=self.burst,
            tokens_per_minute=self.rate_limit_tpm,
            concurrency=self.max_concurrency,
            budgets=tuple(
                BudgetLimit(unit, window, getattr(self, name))
                for name, (unit, window) in BUDGETS.items()
                if getattr(self, name) is not None
            ),
            clamps=self.clamp_to_budget,
        )


def limit_checks(prefix: str) -> list[CheckConstraint]:
    """The bounds of every limit, in the database as well. `prefix` begins the names of the constraints."""
    highest = {
        **dict.fromkeys(
            ("rate_limit_rpm", "daily_limit", "burst", "max_concurrency"), MAX_REQUESTS
        ),
        **dict.fromkeys(("rate_limit_tpm", *TOKEN_BUDGETS), MAX_TOKENS),
        **dict.fromkeys(MONEY_BUDGETS, MAX_BUDGET_NANO),
    }
    return [limit_check(field, f"{prefix}_{field}", most) for field, most in highest.items()]


class Tenant(Identified, Limited):
    """An organisation. Everything that a caller can reach belongs to exactly one."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        INACTIVE = "inactive"

    name = models.CharField(max_length=128)
    slug = models.SlugField(max_length=64, unique=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    rate_limit_rpm = models.BigIntegerField(null=True, default=120)
    allowed_models = models.JSONField(null=True, default=None)
    allowed_addresses = models.JSONField(null=True, default=None)
    content_logging = models.BooleanField(default=False)
    content_retention_days = models.PositiveIntegerField(default=30)

    class Meta:
        constraints: ClassVar = [
            CheckConstraint(condition=Q(status__in=["active", "inactive"]), name="tenant_status"),
            CheckConstraint(
                condition=Q(content_retention_days__gte=1, content_retention_days__lte=3650),
                name="tenant_content_retention",
            ),
            *limit_checks("tenant"),
        ]

    def __str__(self) -> str:
        return self.slug


class Project(Identified, Limited):
    """A group of keys inside a tenant."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="projects")
    name = models.CharField(max_length=128)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint("tenant", Lower("name"), name="project_name_in_tenant"),
            *limit_checks("project"),
        ]

    def __str__(self) -> str:
        return self.name


class Account(Identified, Limited):
    """A payer inside a tenant. Inactive or deleted: its keys answer 401."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="accounts")
    username = models.CharField(max_length=128)
    email = models.EmailField(blank=True, default="")
    organization = models.CharField(max_length=128, blank=True, default="")
    is_active = models.BooleanField(default=True)
    deleted_at = models.DateTimeField(null=True, default=None)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint("tenant", Lower("username"), name="account_username_in_tenant"),
            *limit_checks("account"),
        ]

    def __str__(self) -> str:
        return self.username


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


class SpentTicket(Identified):
    """A form that was carried out. The console's forms carry a ticket each; one that stands here does nothing again."""

    nonce = models.CharField(max_length=64, unique=True)
    #: Where what it did is to be seen.
    place = models.CharField(max_length=256, blank=True, default="")

    class Meta:
        indexes: ClassVar = [models.Index(fields=["created_at"], name="spent_ticket_by_time")]

    def __str__(self) -> str:
        return self.nonce


class RootSecret(Identified):
    """A random 32-byte secret, wrapped by the KEK: a tenant's own, or one of the platform's (pepper, audit, sign-in).

    Rotating the KEK rewrites these rows and no ciphertext; deleting a tenant's row shreds what was sealed for it.
    """

    purpose = models.CharField(max_length=32)
    tenant = models.ForeignKey(Tenant, null=True, on_delete=models.CASCADE, related_name="+")
    version = models.PositiveIntegerField(default=1)
    salt = models.BinaryField(max_length=32)
    wrapped = models.BinaryField(max_length=256)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(
                fields=["purpose", "tenant", "version"],
                condition=Q(tenant__isnull=False),
                name="root_secret_of_tenant",
            ),
            UniqueConstraint(
                fields=["purpose", "version"],
                condition=Q(tenant__isnull=True),
                name="root_secret_of_platform",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} {self.version}"


class ConfigChange(models.Model):
    """One line per configuration change; the newest `seq` is the epoch that workers compare theirs with.

    `seq` is made under a lock, so that it rises without gaps in the order of commits: a reader that saw n has missed none below.
    `kind` and `object_id` say what to drop; `tenant_id` narrows it to one tenant's, null means everybody's.
    """

    seq = models.BigIntegerField(primary_key=True)
    kind = models.CharField(max_length=32)
    object_id = models.UUIDField()
    tenant_id = models.UUIDField(null=True, default=None)
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.seq}: {self.kind} {self.object_id}"


class AuditHead(models.Model):
    """The end of each scope's chain: the row that writers of one scope queue on, and what a cut tail is noticed by."""

    scope = models.CharField(max_length=64, primary_key=True)
    seq = models.BigIntegerField(default=0)
    row_hash = models.BinaryField(max_length=32)

    def __str__(self) -> str:
        return f"{self.scope} {self.seq}"


class AuditEvent(models.Model):
    """One decision: who, by what means, did what to what, and how it ended. Chained per scope; only ever added.

    It names its target in text, so it survives it. `scope` is a tenant's id or `platform`.
    """

    class Outcome(models.TextChoices):
        OK = "ok"
        REFUSED = "refused"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    scope = models.CharField(max_length=64)
    seq = models.BigIntegerField()
    created_at = models.DateTimeField()
    actor_type = models.CharField(max_length=32)
    actor_id = models.CharField(max_length=64)
    actor_label = models.CharField(max_length=128)
    method = models.CharField(max_length=32)
    action = models.CharField(max_length=64)
    target_kind = models.CharField(max_length=32)
    target_id = models.CharField(max_length=64)
    target_label = models.CharField(max_length=256)
    outcome = models.CharField(max_length=16, choices=Outcome)
    error_code = models.CharField(max_length=64, blank=True, default="")
    duration_ms = models.BigIntegerField()
    details = models.JSONField(default=dict)
    details_salt = models.BinaryField(max_length=16)
    details_digest = models.BinaryField(max_length=32)
    request_id = models.CharField(max_length=64)
    source = models.CharField(max_length=16)
    address = models.CharField(max_length=64, blank=True, default="")
    user_agent = models.CharField(max_length=256, blank=True, default="")
    prev_hash = models.BinaryField(max_length=32)
    row_hash = models.BinaryField(max_length=32)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["scope", "seq"], name="audit_seq_in_scope"),
            CheckConstraint(
                condition=~Q(actor_type="") & ~Q(actor_id="") & ~Q(actor_label=""),
                name="audit_actor_named",
            ),
            CheckConstraint(
                condition=~Q(method="") & ~Q(request_id="") & Q(duration_ms__gte=0),
                name="audit_circumstances_named",
            ),
            CheckConstraint(
                condition=Q(outcome__in=["ok", "refused", "failed"]),
                name="audit_outcome",
            ),
            CheckConstraint(
                condition=Q(source__in=["api", "console", "command", "mcp", "system"]),
                name="audit_source",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["created_at", "id"], name="audit_by_time"),
            models.Index(fields=["action", "created_at"], name="audit_by_action"),
            models.Index(fields=["target_kind", "target_id"], name="audit_by_target"),
            models.Index(fields=["actor_id", "created_at"], name="audit_by_actor"),
            models.Index(fields=["request_id"], name="audit_by_request"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.seq}: {self.action}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("An audit event is not changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("An audit event is not deleted.")
