"""Django's session, kept in the row of the operator who signed in: what ends that row ends the cookie.

Nobody has a session before they signed in, so there is nothing to fix in advance, and no stranger fills a table.
"""

from typing import Any

from django.contrib.sessions.backends.base import SessionBase, UpdateError

from tenants.models import Session, User
from tenants.sign_in import cookie_session, renew_cookie

_LONGEST_COOKIE = 64


class SessionStore(SessionBase):
    """`session_key` is the cookie's value. `row` is the live session it stands for, read at the first need."""

    row: Session | None = None

    @property
    def operator(self) -> User | None:
        self._loaded()
        return self.row.user if self.row is not None else None

    def _loaded(self) -> dict[str, Any]:
        """What the row holds; reading it is what finds the row."""
        session: Any = self
        found: dict[str, Any] = session._get_session()
        return found

    def open(self, cookie: str, row: Session) -> None:
        """Somebody has just signed in: from now on this is theirs, and the cookie is to be set."""
        self._session_key, self.row = cookie, row
        self._session_cache: dict[str, Any] = {}
        self.accessed = self.modified = True

    def load(self) -> dict[str, Any]:
        key = self._session_key
        self.row = cookie_session(key) if key and len(key) <= _LONGEST_COOKIE else None
        if self.row is None:
            self._session_key = None
            return {}
        return dict(self.row.data or {})

    def is_empty(self) -> bool:
        self._loaded()
        return self.row is None

    def exists(self, session_key: str) -> bool:
        return cookie_session(session_key) is not None

    def create(self) -> None:
        """Only signing in makes one."""

    def save(self, must_create: bool = False) -> None:
        if self.row is None:
            return
        alive = Session.objects.filter(pk=self.row.pk, ended_at__isnull=True)
        if not alive.update(data=self._loaded()):
            raise UpdateError

    def delete(self, session_key: str | None = None) -> None:
        """Ending is a decision with an audit row (`sign_in.sign_out`); here it is only let go of."""
        self.row = None

    def cycle_key(self) -> None:
        if self.row is not None:
            self._session_key = renew_cookie(self.row)
            self.modified = True

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing: ended sessions stay to be looked at, until there is housekeeping for all tables."""
