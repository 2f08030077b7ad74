"""Nothing is forgotten: every model is in a backup or left out for a reason, and every column of it has a form."""

import pytest
from django.apps import apps
from django.db.models import BinaryField, ForeignKey

from gateway.backup import values
from gateway.backup.tables import BY_LABEL, LEFT_OUT, TABLES


def test_every_model_is_exported_or_left_out_for_a_reason():
    told = [table.model for table in TABLES] + list(LEFT_OUT)
    assert sorted(map(str, told)) == sorted(map(str, apps.get_models(include_auto_created=True)))
    assert all(len(reason) > 10 for reason in LEFT_OUT.values())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.label)
def test_every_column_has_a_form(table):
    for column in table.columns.values():
        assert callable(values.reader_of(column))
    assert set(table.fixed).isdisjoint(table.columns)
    named = {column for name in table.names for column in (*name.columns, name.when) if column}
    given = {table.tenant, table.part_of, table.unless} - {""}
    sealed = {table.sealed.column} if table.sealed else set()
    assert named | given | sealed <= table.columns.keys()


def test_what_is_referred_to_comes_first():
    seen: set[str] = set()
    for table in TABLES:
        assert set(table.references.values()) <= seen | {table.label}
        seen.add(table.label)
    assert seen == set(BY_LABEL)


def test_every_column_of_sealed_bytes_is_known_as_such():
    """Whatever is named `sealed` is counted as unreadable without the key, and sealed anew where ids change."""
    for table in TABLES:
        for name, column in table.columns.items():
            is_sealed = "sealed" in name and isinstance(column, BinaryField)
            assert is_sealed == (table.sealed is not None and table.sealed.column == name)


def test_nothing_that_is_left_out_is_referred_to():
    for table in TABLES:
        for column in table.columns.values():
            if isinstance(column, ForeignKey):
                assert column.related_model not in LEFT_OUT
