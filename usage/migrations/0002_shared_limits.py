from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("usage", "0001_initial"),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="SharedLimit",
            fields=[
                ("name", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("state", models.BinaryField()),
                ("idle_at", models.BigIntegerField(default=0)),
            ],
            options={
                "indexes": [models.Index(fields=["idle_at"], name="shared_limit_idle")],
            },
        ),
    ]
