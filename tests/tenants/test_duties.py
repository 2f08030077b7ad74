"""A duty is one holder's at a time, and nobody's for ever."""

from datetime import timedelta

import pytest

from tenants import duties
from tenants.clock import SYSTEM
from tests.support.threads import at_once

DAY = timedelta(days=1)


@pytest.mark.django_db
def test_it_is_taken_by_one_and_not_again_until_it_is_due():
    now = SYSTEM.now()
    assert duties.take("x", "a", now, DAY)
    assert not duties.take("x", "b", now, DAY)
    assert not duties.take("x", "a", now, DAY)
    assert duties.take("y", "b", now, DAY)
    duties.done("x", "a", now)
    assert not duties.take("x", "b", now + DAY - timedelta(seconds=1), DAY)
    assert duties.take("x", "b", now + DAY, DAY)


@pytest.mark.django_db
def test_a_holder_that_says_nothing_loses_it_and_learns_so():
    now = SYSTEM.now()
    assert duties.take("x", "a", now, DAY)
    now += duties.LEASE - timedelta(seconds=1)
    assert duties.renew("x", "a", now)
    now += duties.LEASE - timedelta(seconds=1)
    assert not duties.take("x", "b", now, DAY)
    now += timedelta(seconds=1)
    assert duties.take("x", "b", now, DAY)
    assert not duties.renew("x", "a", now)
    # What the first one still says is not believed.
    duties.done("x", "a", now)
    assert not duties.take("x", "c", now, DAY)
    assert duties.renew("x", "b", now)
    duties.done("x", "b", now)
    assert not duties.renew("x", "b", now)
    assert duties.done_at("x") == now


@pytest.mark.django_db
def test_a_clock_that_was_ahead_stops_nothing_for_long():
    now = SYSTEM.now()
    assert duties.take("x", "a", now + 400 * DAY, DAY)
    assert duties.take("x", "b", now, DAY)
    duties.done("x", "b", now + 400 * DAY)
    assert duties.take("x", "c", now, DAY)


@pytest.mark.django_db(transaction=True)
def test_of_many_that_ask_at_once_one_gets_it():
    now = SYSTEM.now()
    names = [f"holder {number}" for number in range(8)]
    got = at_once(*(lambda name=name: duties.take("x", name, now, DAY) for name in names))
    assert sorted(got) == [False] * 7 + [True]
