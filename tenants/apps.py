from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate

from tenants import audit_triggers


def _install_triggers(sender: AppConfig, using: str, **_: Any) -> None:
    audit_triggers.install(connections[using])


class TenantsConfig(AppConfig):
    name = "tenants"

    def ready(self) -> None:
        post_migrate.connect(_install_triggers, sender=self, dispatch_uid="audit-triggers")
