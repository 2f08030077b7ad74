"""Sums of the log by quarters of a day (usage/quarters.py, which alone writes them)."""

from typing import ClassVar

from django.db import models
from django.db.models import UniqueConstraint


class Quarter(models.Model):
    """A quarter of a day, UTC: `start` is within, `end` is not. `token` is of whoever sums it up; once `is_closed`, its sums are
    those of all its calls. `is_pruned`: of some of these the log may know no more, so the sums stay as they are.
    """

    start = models.DateTimeField(unique=True)
    end = models.DateTimeField()
    token = models.UUIDField()
    is_closed = models.BooleanField(default=False)
    is_pruned = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%dT%H}"


class QuarterSum(models.Model):
    """What the calls of a quarter came to: of a tenant, or of the whole house (`NOBODY`); of a model by the name that was asked
    for, or of all (`is_whole`). `*_us` are sums of times in microseconds, `*_bins` their histograms (usage/histograms.py).
    """

    start = models.DateTimeField()
    tenant_id = models.UUIDField()
    is_whole = models.BooleanField()
    model = models.CharField(max_length=256, blank=True, default="")
    requests = models.BigIntegerField()
    errors = models.BigIntegerField()
    tokens_in = models.BigIntegerField()
    tokens_cached = models.BigIntegerField()
    tokens_out = models.BigIntegerField()
    cost_nano_usd = models.BigIntegerField()
    unpriced = models.BigIntegerField()
    estimated = models.BigIntegerField()
    unpriced_in = models.BigIntegerField()
    unpriced_out = models.BigIntegerField()
    duration_us = models.BigIntegerField()
    ttfb_us = models.BigIntegerField()
    overhead_us = models.BigIntegerField()
    duration_bins = models.BinaryField()
    ttfb_bins = models.BinaryField()
    overhead_bins = models.BinaryField()

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(
                fields=["tenant_id", "is_whole", "start", "model"], name="quarter_sum_once"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["start"], name="quarter_sum_by_start")]

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%dT%H} {self.tenant_id} {'' if self.is_whole else self.model}"
