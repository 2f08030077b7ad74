"""What the relay asks of a wire format. A dialect is one pure module that has these names; nothing asks which one it is."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from providers.types import Headers, Usage
from tenants.sealing import Secret


class Account(Protocol):
    """Where a provider's API stands: the `path` of its base URL, and what some formats ask for besides (`Dialect.FIELDS`);
    empty where nothing was given.
    """

    @property
    def path(self) -> str: ...

    @property
    def deployment(self) -> str: ...

    @property
    def api_version(self) -> str: ...


class OutputCap(NamedTuple):
    """A cap on each output, in tokens, for calls that must be bounded. `member`: what a provider calls it in a chat."""

    member: str
    tokens: int


class CallBody(Protocol):
    """A caller's request, read once. Sizes in bytes, estimates in tokens (providers/dialects/openai.py says more)."""

    @property
    def capability(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def stream(self) -> bool: ...

    @property
    def wants_usage(self) -> bool: ...

    @property
    def output_cap(self) -> int | None: ...

    @property
    def n(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def prompt_estimate(self) -> int: ...

    @property
    def text_only(self) -> bool: ...

    def without_words(self) -> "CallBody":
        """All figures of it, and nothing that could be sent."""
        ...


class StreamWatcher(Protocol):
    """Watches a stream on its way to the caller: what to relay, what was used, whether it ended as it should."""

    usage: Usage | None
    done: bool
    error: bytes | None

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...

    def estimate_output(self) -> int: ...


class MakesWatcher(Protocol):
    def __call__(self, wants_usage: bool) -> StreamWatcher: ...


class Dialect(Protocol):
    """One wire format, as a module."""

    NAME: str
    #: Which fields of `Account` beside the path it takes from a provider.
    FIELDS: frozenset[str]
    #: Whether the ids in an upstream's list of models are names that it can be called with.
    LISTS_WHAT_IT_SERVES: bool

    @property
    def StreamReader(self) -> MakesWatcher: ...  # noqa: N802 - a class of the module

    def read_request(self, body: bytes, capability: str, model: str = "") -> CallBody: ...

    def write_request(
        self, call: CallBody, upstream_model: str, cap: OutputCap | None = None
    ) -> bytes: ...

    def request_path(self, account: Account, operation: str, model: str) -> bytes: ...

    def models_path(self, account: Account) -> bytes: ...

    def credential(self, api_key: Secret) -> Headers: ...

    def headers(self, api_key: Secret | None, forwarded: Headers) -> Headers: ...

    def read_answer(self, body: bytes) -> tuple[bool, Usage | None]: ...

    def estimate_output_of(self, body: bytes) -> int: ...

    def error_body(
        self, message: str, type: str, param: str | None = None, code: str | None = None
    ) -> bytes: ...

    def stream_error(self, message: str, type: str, code: str | None = None) -> bytes: ...

    def clean_error(
        self, status: int, body: bytes, content_type: bytes, secrets: Sequence[Secret]
    ) -> bytes: ...

    def clean_stream_error(self, payload: bytes, secrets: Sequence[Secret]) -> bytes: ...

    def models_list(self, entries: Sequence[tuple[str, int, str]]) -> bytes: ...

    def model_entry(self, model_id: str, created: int, owned_by: str) -> bytes: ...
