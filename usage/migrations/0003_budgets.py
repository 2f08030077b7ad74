import uuid
from datetime import date
from typing import ClassVar

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps
from django.db.models.functions import TruncDate

NOBODY = uuid.UUID(int=0)


def _fill_days(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Lines from before days were kept: the day on which the call was settled is all that is known."""
    apps.get_model("usage", "LedgerEntry").objects.update(day=TruncDate("created_at"))


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("usage", "0002_shared_limits"),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="Balance",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("level_kind", models.CharField(max_length=8)),
                ("level_id", models.UUIDField()),
                ("unit", models.CharField(max_length=8)),
                ("window", models.CharField(max_length=16)),
                ("spent", models.BigIntegerField(default=0)),
                ("held", models.BigIntegerField(default=0)),
                ("ceiling", models.BigIntegerField(default=0)),
                ("credited", models.BigIntegerField(default=0)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("level_id", "window", "unit"), name="balance_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("credited__gte", 0), ("held__gte", 0), ("spent__gte", 0)
                        ),
                        name="balance_not_negative",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ceiling__gte", models.F("spent") + models.F("held"))),
                        name="balance_within_ceiling",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("unit__in", ["nano_usd", "tokens"])),
                        name="balance_unit",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="HoldSlice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("boot", models.UUIDField()),
                ("balance_id", models.BigIntegerField()),
                ("amount", models.BigIntegerField()),
                ("lent", models.BigIntegerField()),
                ("deadline", models.DateTimeField()),
                ("written_off_at", models.DateTimeField(default=None, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["balance_id"], name="slice_by_balance"),
                    models.Index(fields=["deadline"], name="slice_by_deadline"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("boot", "balance_id"), name="slice_once"),
                    models.CheckConstraint(
                        condition=models.Q(("amount__gte", 0)), name="slice_not_negative"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Credit",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("tenant_id", models.UUIDField()),
                ("account_id", models.UUIDField()),
                ("created_at", models.DateTimeField()),
                ("nano_usd", models.BigIntegerField()),
                ("note", models.CharField(blank=True, default="", max_length=256)),
                ("actor_type", models.CharField(max_length=16)),
                ("actor_id", models.CharField(max_length=64)),
                ("actor_label", models.CharField(max_length=128)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["account_id", "created_at"], name="credit_by_account")
                ],
            },
        ),
        migrations.AddField("ledgerentry", "day", models.DateField(default=date(1970, 1, 1))),
        migrations.AddField("ledgerentry", "model_id", models.UUIDField(default=NOBODY)),
        migrations.AddField("ledgerentry", "provider_id", models.UUIDField(default=NOBODY)),
        migrations.AddField("ledgerentry", "overrun", models.BooleanField(default=False)),
        migrations.AddField("ledgerentry", "correction_id", models.UUIDField(default=NOBODY)),
        migrations.AddField(
            "ledgerentry", "reason", models.CharField(blank=True, default="", max_length=256)
        ),
        migrations.AddField(
            "ledgerentry", "corrected_by", models.CharField(blank=True, default="", max_length=128)
        ),
        migrations.RunPython(_fill_days, migrations.RunPython.noop),
        migrations.AddConstraint(
            "ledgerentry",
            models.UniqueConstraint(
                fields=("month", "request_id", "correction_id"),
                condition=models.Q(("line__gt", 1)),
                name="ledger_corrected_once",
            ),
        ),
        migrations.RemoveConstraint("rollup", "rollup_once"),
        migrations.AddField("rollup", "model_id", models.UUIDField(default=NOBODY)),
        migrations.AddField("rollup", "provider_id", models.UUIDField(default=NOBODY)),
        migrations.AddConstraint(
            "rollup",
            models.UniqueConstraint(
                fields=(
                    "month",
                    "tenant_id",
                    "project_id",
                    "account_id",
                    "key_id",
                    "model",
                    "model_id",
                    "provider_id",
                ),
                name="rollup_once",
            ),
        ),
    ]
