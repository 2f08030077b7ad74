"""What operators decided about the house while it runs."""

from django.db import models

from tenants.models.base import Identified


class Setting(Identified):
    """A runtime setting that was changed; one without a row has the value of the environment, or its default.

    Which there are, and what each may be, stands in tenants/setting_services.py.
    """

    name = models.CharField(max_length=64, unique=True)
    value = models.JSONField(null=True)

    def __str__(self) -> str:
        return self.name
