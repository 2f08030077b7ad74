from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("usage", "0003_budgets"),
    ]

    operations: ClassVar = [
        migrations.RemoveConstraint(
            model_name="ledgerentry",
            name="ledger_tokens_not_negative",
        ),
        migrations.AddField(
            model_name="ledgerentry",
            name="audio_ms",
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="ledgerentry",
            name="images",
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="ledgerentry",
            name="tokens_cache_write",
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddConstraint(
            model_name="ledgerentry",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("line__gt", 1),
                    models.Q(
                        ("audio_ms__gte", 0),
                        ("images__gte", 0),
                        ("tokens_cache_write__gte", 0),
                        ("tokens_cached__gte", 0),
                        ("tokens_in__gte", 0),
                        ("tokens_out__gte", 0),
                        ("tokens_reasoning__gte", 0),
                    ),
                    _connector="OR",
                ),
                name="ledger_tokens_not_negative",
            ),
        ),
    ]
