"""The tenant that everything belongs to until somebody makes a second one."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def make_default_tenant(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    tenant = apps.get_model("tenants", "Tenant")
    tenant.objects.get_or_create(slug="default", defaults={"name": "Default"})


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]

    operations = [migrations.RunPython(make_default_tenant, migrations.RunPython.noop)]
