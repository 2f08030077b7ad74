from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("usage", "0006_idempotency"),
    ]

    operations: ClassVar = [
        migrations.AddField(
            model_name="requestlog",
            name="trace_id",
            field=models.UUIDField(default=None, null=True),
        ),
        migrations.AddIndex(
            model_name="requestlog",
            index=models.Index(
                condition=models.Q(("trace_id__isnull", False)),
                fields=["trace_id", "created_at"],
                name="log_by_trace",
            ),
        ),
    ]
