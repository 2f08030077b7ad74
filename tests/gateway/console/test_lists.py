"""How the console's lists may be asked: by what they offer, and within bounds."""

import pytest

from tests.cast import Console

LISTS = ["tenants/", "projects/", "accounts/", "keys/", "providers/", "models/"]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "lookup", ["id__gt=0", "created_at__year=2026", "tenant__slug=acme", "name__regex=(a|a)*b"]
)
def test_a_list_takes_no_filter_but_its_own(viewer, path, lookup):
    """A regular expression would run inside of the worker, and every call of it would wait for its end."""
    assert Console().signed_in(viewer).get(f"{path}?{lookup}").status_code == 400


@pytest.mark.parametrize("path", LISTS)
def test_a_search_of_any_length_is_answered(console, tenant, path):
    assert console.get(f"{path}?q={'a+' * 3000}").status_code == 200
