from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("usage", "0005_why"),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="IdempotentCall",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField()),
                ("key_id", models.UUIDField()),
                ("name", models.BinaryField(max_length=32)),
                ("body", models.BinaryField(max_length=32)),
                ("boot", models.UUIDField()),
                ("request_id", models.UUIDField()),
                ("created_at", models.DateTimeField()),
                (
                    "state",
                    models.CharField(
                        choices=[("open", "Open"), ("closed", "Closed")],
                        default="open",
                        max_length=8,
                    ),
                ),
                ("sealed", models.BinaryField(default=None, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["created_at"], name="idempotent_by_time"),
                    models.Index(fields=["boot", "state"], name="idempotent_by_boot"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("key_id", "name"), name="idempotent_once_per_key"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(state__in=["open", "closed"]), name="idempotent_state"
                    ),
                ],
            },
        ),
    ]
