"""Sessions that a cookie carries, and the tickets of forms that were carried out."""

import uuid

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0002_default_tenant"),
    ]

    operations = [
        migrations.AddField(
            model_name="session",
            name="cookie_hash",
            field=models.BinaryField(default=None, max_length=32, null=True, unique=True),
        ),
        migrations.AddField(
            model_name="session",
            name="data",
            field=models.JSONField(default=None, null=True),
        ),
        migrations.AddField(
            model_name="session",
            name="idle_ends_at",
            field=models.DateTimeField(default=None, null=True),
        ),
        migrations.CreateModel(
            name="SpentTicket",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                ("nonce", models.CharField(max_length=64, unique=True)),
                ("place", models.CharField(blank=True, default="", max_length=256)),
            ],
            options={
                "indexes": [models.Index(fields=["created_at"], name="spent_ticket_by_time")],
            },
        ),
    ]
