"""What a service can refuse, without a word of HTTP.

ServiceError
├── Invalid          the request itself is wrong; `fields` says where
├── NotFound         no such thing for this caller
├── Conflict         the thing is in a state that forbids it
├── Gone             it was there, and cannot come back
└── Unavailable      we could not; try again later
"""

from collections.abc import Mapping


class ServiceError(Exception):
    """`code` is stable and for programs, `message` is a sentence for people, `facts` are extra members of the answer."""

    code = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        fields: Mapping[str, str] | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.fields = dict(fields or {})
        self.facts = dict(facts or {})


class Invalid(ServiceError):
    code = "invalid_request"

    @classmethod
    def field(cls, name: str, sentence: str) -> "Invalid":
        return cls(f"{name}: {sentence}", fields={name: sentence})


class NotFound(ServiceError):
    code = "not_found"

    def __init__(self, message: str = "There is no such thing here.") -> None:
        super().__init__(message)


class Conflict(ServiceError):
    code = "conflict"


class Gone(ServiceError):
    code = "gone"


class Unavailable(ServiceError):
    code = "unavailable"
