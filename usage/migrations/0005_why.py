from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("usage", "0004_prices"),
    ]

    operations: ClassVar = [
        migrations.AddField(
            model_name="requestlog",
            name="why",
            field=models.TextField(blank=True, default=""),
        ),
        migrations.RemoveIndex(model_name="requestlog", name="log_by_time"),
        migrations.AddIndex(
            model_name="requestlog",
            index=models.Index(
                fields=[
                    "created_at",
                    "request_id",
                    "status",
                    "tokens_in",
                    "tokens_cached",
                    "tokens_out",
                    "cost_nano_usd",
                    "usage_source",
                    "duration_us",
                    "ttfb_us",
                    "overhead_us",
                ],
                name="log_figures",
            ),
        ),
    ]
