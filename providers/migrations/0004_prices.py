from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("providers", "0003_limits"),
        ("tenants", "0004_limits"),
    ]

    operations: ClassVar = [
        migrations.RemoveConstraint(
            model_name="price",
            name="price_once_per_moment",
        ),
        migrations.RemoveConstraint(
            model_name="price",
            name="price_not_negative",
        ),
        migrations.AddField(
            model_name="price",
            name="cache_write_nano_per_mtok",
            field=models.BigIntegerField(default=None, null=True),
        ),
        migrations.AddField(
            model_name="price",
            name="long_context_cache_write_nano_per_mtok",
            field=models.BigIntegerField(default=None, null=True),
        ),
        migrations.AddField(
            model_name="price",
            name="long_context_cached_input_nano_per_mtok",
            field=models.BigIntegerField(default=None, null=True),
        ),
        migrations.AddField(
            model_name="price",
            name="long_context_from_tokens",
            field=models.BigIntegerField(default=None, null=True),
        ),
        migrations.AddField(
            model_name="price",
            name="long_context_input_nano_per_mtok",
            field=models.BigIntegerField(default=None, null=True),
        ),
        migrations.AddField(
            model_name="price",
            name="long_context_output_nano_per_mtok",
            field=models.BigIntegerField(default=None, null=True),
        ),
        migrations.AddField(
            model_name="price",
            name="per_image_nano",
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="price",
            name="per_minute_nano",
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="price",
            name="tenant",
            field=models.ForeignKey(
                default=None,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="own_prices",
                to="tenants.tenant",
            ),
        ),
        migrations.AddField(
            model_name="provider",
            name="disconnect_policy",
            field=models.CharField(
                choices=[("cancel", "Cancel"), ("drain", "Drain")], default="cancel", max_length=8
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.UniqueConstraint(
                condition=models.Q(("tenant__isnull", True)),
                fields=("model", "effective_from"),
                name="price_once_per_moment",
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.UniqueConstraint(
                condition=models.Q(("tenant__isnull", False)),
                fields=("model", "tenant", "effective_from"),
                name="price_once_per_tenant_moment",
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("input_nano_per_mtok__gte", 0),
                    ("output_nano_per_mtok__gte", 0),
                    ("per_image_nano__gte", 0),
                    ("per_minute_nano__gte", 0),
                    ("per_request_nano__gte", 0),
                    models.Q(
                        ("cached_input_nano_per_mtok__isnull", True),
                        ("cached_input_nano_per_mtok__gte", 0),
                        _connector="OR",
                    ),
                    models.Q(
                        ("cache_write_nano_per_mtok__isnull", True),
                        ("cache_write_nano_per_mtok__gte", 0),
                        _connector="OR",
                    ),
                    models.Q(
                        ("reasoning_nano_per_mtok__isnull", True),
                        ("reasoning_nano_per_mtok__gte", 0),
                        _connector="OR",
                    ),
                    models.Q(
                        ("long_context_input_nano_per_mtok__isnull", True),
                        ("long_context_input_nano_per_mtok__gte", 0),
                        _connector="OR",
                    ),
                    models.Q(
                        ("long_context_output_nano_per_mtok__isnull", True),
                        ("long_context_output_nano_per_mtok__gte", 0),
                        _connector="OR",
                    ),
                    models.Q(
                        ("long_context_cached_input_nano_per_mtok__isnull", True),
                        ("long_context_cached_input_nano_per_mtok__gte", 0),
                        _connector="OR",
                    ),
                    models.Q(
                        ("long_context_cache_write_nano_per_mtok__isnull", True),
                        ("long_context_cache_write_nano_per_mtok__gte", 0),
                        _connector="OR",
                    ),
                ),
                name="price_not_negative",
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("long_context_from_tokens__isnull", True),
                    models.Q(
                        ("long_context_from_tokens__gte", 1),
                        ("long_context_from_tokens__lte", 1000000000000),
                    ),
                    _connector="OR",
                ),
                name="price_long_context",
            ),
        ),
        migrations.AddConstraint(
            model_name="provider",
            constraint=models.CheckConstraint(
                condition=models.Q(("disconnect_policy__in", ["cancel", "drain"])),
                name="provider_disconnect_policy",
            ),
        ),
    ]
