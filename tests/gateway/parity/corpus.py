"""The corpus: exchanges as data. What they are to come to is not said here; only that it is the same everywhere.

`{name}` in a header stands for the secret of that key of the cast (player.py). A model `oracle/x~script` is answered by the
oracle as its script says.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.gateway.door import PROMPT
from tests.support.oracle.script import USAGE_KINDS

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
#: Bytes of the largest body that the servers of this corpus take.
MAX_BODY = 1024 * 1024

Headers = tuple[tuple[str, str], ...]
JSON: Headers = (("content-type", "application/json"),)
KEY: Headers = (("authorization", "Bearer {main}"),)


@dataclass(frozen=True)
class Case:
    """One exchange. `headers` are all that is sent but host, length and, unless one is given, a request id.

    `leave`: hang up once the oracle has the call ("asked"), or once so many events of the stream have come. `times`: sent so
    often, and only the last answer counts. `announced`: a length that is told in place of the body's own.
    """

    name: str
    method: str = "POST"
    path: str = CHAT
    body: bytes | Callable[[], bytes] | None = None
    headers: Headers = KEY + JSON
    leave: int | str | None = None
    times: int = 1
    announced: int | None = None
    is_chunked: bool = False

    @property
    def content(self) -> bytes | None:
        return self.body() if callable(self.body) else self.body


def chat(model: str = "oracle/ok", **members: Any) -> bytes:
    return json.dumps({"model": model, "messages": PROMPT, **members}).encode()


def both(name: str, script: str, **members: Any) -> Iterator[Case]:
    """The same call, whole and as a stream."""
    model = f"oracle/{name}~{script}"
    yield Case(f"{name}, whole", body=chat(model, **members))
    yield Case(f"{name}, stream", body=chat(model, stream=True, **members))


# --- calls as they should be ------------------------------------------------------------------------------------------

_TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
_PARTS = [{"role": "user", "content": [{"type": "text", "text": "naïve 日本"}]}]


def good() -> Iterator[Case]:
    yield from both("plain", "ok")
    yield from both("tools", "tools", tools=[_TOOL])
    yield from both("two choices", "ok", n=2)
    yield from both("capped", "ok", max_tokens=2)
    yield from both("of parts", "ok", messages=_PARTS)
    yield from both("unknown members", "ok", seed=1, x_new={"deep": [1, 2.50, 1e3]})
    yield from both("slow", "slow:0.2")
    yield from both("a trickle", "drip:6x0.02")
    yield Case(
        "stream, usage asked for", body=chat(stream=True, stream_options={"include_usage": True})
    )
    yield Case("stream, byte by byte", body=chat("oracle/~drip:40x0+split:1", stream=True))
    yield Case("stream, carriage returns", body=chat("oracle/~crlf", stream=True))
    yield Case("stream of 64 KiB and more", body=chat("oracle/~drip:3000x0", stream=True))
    yield Case("whole of 64 KiB and more", body=chat("oracle/~drip:30000x0"))
    yield Case("an unpriced model", body=chat("free/ok"))
    yield Case("an unpriced model, stream", body=chat("free/ok", stream=True))
    yield Case("64 levels", body=nested(64))
    yield Case("chunked body", body=chat(), is_chunked=True)
    for kind in USAGE_KINDS:
        yield from both(f"usage {kind}", f"usage:{kind}")
    completion = {"model": "oracle/ok", "prompt": "say something to me"}
    yield Case("completion", path=COMPLETIONS, body=_json(completion))
    yield Case("completion, stream", path=COMPLETIONS, body=_json({**completion, "stream": True}))
    yield Case(
        "completion of two", path=COMPLETIONS, body=_json({**completion, "prompt": ["a", "b c"]})
    )
    for name, given in (("text", "a b"), ("list", ["a", "b c"]), ("tokens", [1, 2, 3])):
        yield Case(
            f"embedding of {name}",
            path=EMBEDDINGS,
            body=_json({"model": "embed/ok", "input": given}),
        )
    packed = {"model": "embed/ok", "input": "a", "encoding_format": "base64"}
    yield Case("embedding in base64", path=EMBEDDINGS, body=_json(packed))
    for script in ("echo", "cut", "fail-503"):
        yield Case(f"demo {script}", body=chat(f"demo/{script}"))
        yield Case(f"demo {script}, stream", body=chat(f"demo/{script}", stream=True))
    yield Case("a second target serves", body=chat("second"))


def bases() -> Iterator[Case]:
    """Users mix up base URLs."""
    for base in ("", "/v1/v1"):
        yield Case(f"chat below {base!r}", path=f"{base}/chat/completions", body=chat())
        yield Case(
            f"stream below {base!r}", path=f"{base}/chat/completions", body=chat(stream=True)
        )
        yield Case(f"models below {base!r}", "GET", f"{base}/models", headers=KEY)
        yield Case(f"model below {base!r}", "GET", f"{base}/models/free/*", headers=KEY)
        given = {"model": "embed/ok", "input": "a"}
        yield Case(f"embedding below {base!r}", path=f"{base}/embeddings", body=_json(given))


def deployments() -> Iterator[Case]:
    """As Azure's clients ask: the model is in the path, the key in `api-key`."""
    below = "/openai/deployments"
    key: Headers = (("api-key", "{main}"), *JSON)
    asked = f"{below}/oracle/ok/chat/completions?api-version=2024-10-21"
    yield Case("deployment", path=asked, body=_json({"messages": PROMPT}), headers=key)
    yield Case(
        "deployment, stream",
        path=asked,
        body=_json({"messages": PROMPT, "stream": True}),
        headers=key,
    )
    yield Case("deployment and a model that differs", path=asked, body=chat("free/ok"), headers=key)
    yield Case(
        "deployment that is not there",
        path=f"{below}/none/chat/completions",
        body=chat(),
        headers=key,
    )
    yield Case(
        "deployment without a name", path=f"{below}/chat/completions", body=chat(), headers=key
    )
    yield Case(
        "deployment with a hostile name",
        path=f"{below}/%0d%0ax:1/chat/completions",
        body=_json({"messages": PROMPT}),
        headers=key,
    )
    yield Case(
        "deployment for embeddings",
        path=f"{below}/embed/ok/embeddings",
        body=_json({"input": "a"}),
        headers=key,
    )
    for method in ("GET", "OPTIONS", "PUT"):
        yield Case(f"{method} a deployment", method, asked, headers=key)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


# --- bodies that are no request ---------------------------------------------------------------------------------------


def nested(levels: int) -> bytes:
    inner = b"[" * (levels - 1) + b"]" * (levels - 1)
    return chat()[:-1] + b',"x":' + inner + b"}"


_BAD_BODIES: dict[str, bytes | Callable[[], bytes]] = {
    "nothing": b"",
    "text": b"hello",
    "half": b'{"model":"oracle/ok"',
    "trailing comma": b'{"model":"oracle/ok",}',
    "two objects": chat() * 2,
    "brackets": lambda: b"[" * 500_000,
    "65 levels": nested(65),
    "many members": lambda: b'{"model":"m"' + b',"a":1' * 150_000 + b"}",
    "a list": b"[1]",
    "null": b"null",
    "NaN": chat()[:-1] + b',"temperature":NaN}',
    "bad UTF-8": chat()[:-1] + b',"user":"\xff"}',
    "a control character": chat()[:-1] + b',"user":"\x01"}',
    "half a surrogate": chat()[:-1] + b',"model":"\\ud800"}',
    "no model": b'{"messages":[]}',
    "model null": chat(model=None),  # type: ignore[arg-type]  # that is the point
    "model a list": chat(model=["oracle/ok"]),  # type: ignore[arg-type]
    "model empty": chat(model=""),
    "model long": chat(model="m" * 10_000),
    "model with a line end": chat(model="oracle/ok\r\nx-injected: 1"),
    "no messages": b'{"model":"oracle/ok"}',
    "messages a text": chat(messages="hi"),
    "stream a text": chat(stream="yes"),
    "stream_options a list": chat(stream=True, stream_options=[]),
    "max_tokens negative": chat(max_tokens=-1),
    "max_tokens a fraction": chat(max_tokens=10.0),
    "max_tokens enormous": chat(max_tokens=10**30),
    "n zero": chat(n=0),
    "n too many": chat(n=129),
    "two models": chat()[:-1] + b',"model":"free/ok"}',
    "two models, one escaped": chat()[:-1] + b',"\\u006dodel":"free/ok"}',
}


def bodies() -> Iterator[Case]:
    for name, body in _BAD_BODIES.items():
        yield Case(f"body: {name}", body=body)
    yield Case(
        "an escaped name that is not allowed",
        body=_BAD_BODIES["two models, one escaped"],
        headers=_as("narrow-oracle"),
    )
    yield Case("a completion without a prompt", path=COMPLETIONS, body=b'{"model":"oracle/ok"}')
    yield Case("an embedding without input", path=EMBEDDINGS, body=b'{"model":"embed/ok"}')
    yield Case("too large", body=lambda: b" " * (MAX_BODY + 1))
    yield Case(
        "too large, as announced",
        body=b"{",
        announced=MAX_BODY + 1,
        headers=(*KEY, *JSON, ("connection", "close")),
    )
    yield Case("too large, in chunks", body=lambda: b" " * (MAX_BODY + 1), is_chunked=True)
    yield Case("as large as may be", body=lambda: chat().ljust(MAX_BODY))
    yield Case("a body that does not come", body=b"{", announced=100)
    yield Case("a body with GET", "GET", "/v1/models", body=chat())


def media() -> Iterator[Case]:
    kinds = (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "",
    )
    fine = (
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/json; x*=no-such-code''%20",
        "application/json; charset=x",
    )
    for kind in (*kinds, *fine):
        yield Case(f"content-type {kind!r}", body=chat(), headers=(*KEY, ("content-type", kind)))
    yield Case("no content-type", body=chat(), headers=KEY)
    yield Case(
        "two content-types", body=chat(), headers=(*KEY, *JSON, ("content-type", "text/plain"))
    )
    for coding in ("gzip", "identity", "identity, gzip"):
        yield Case(
            f"content-encoding {coding!r}",
            body=chat(),
            headers=(*KEY, *JSON, ("content-encoding", coding)),
        )


# --- who calls, and what they may -------------------------------------------------------------------------------------


def _as(key: str) -> Headers:
    return (("authorization", f"Bearer {{{key}}}"), *JSON)


def callers() -> Iterator[Case]:
    texts = {
        "no scheme": "{main}",
        "basic": "Basic {main}",
        "bearer in capitals": "BEARER {main}",
        "foreign": "Bearer sk-proj-0123456789",
        "longer": "Bearer {main}x",
        "two in one": "Bearer {main}, Bearer {main}",
        "prefix alone": "Bearer gwk_",
        "empty": "Bearer",
        "huge": f"Bearer {'x' * 8000}",
        "not ASCII": "Bearer gwk_é",
        **{
            name: f"Bearer {{{name}}}"
            for name in ("unknown", "master key", "service token", "operator", "paused", "revoked")
        },
    }
    for name, text in texts.items():
        credential = (("authorization", text),)
        yield Case(f"credential: {name}", body=chat(), headers=(*credential, *JSON))
        yield Case(f"credential for models: {name}", "GET", "/v1/models", headers=credential)
    for header in ("x-api-key", "api-key", "x-goog-api-key"):
        yield Case(f"key in {header}", body=chat(), headers=((header, "{main}"), *JSON))
        yield Case(
            f"another key in {header}",
            body=chat(),
            headers=(*KEY, (header, "{narrow-oracle}"), *JSON),
        )
        yield Case(
            f"the same key in {header}", body=chat(), headers=(*KEY, (header, "{main}"), *JSON)
        )
    yield Case("two authorizations", body=chat(), headers=(*KEY, *_as("narrow-oracle")))
    yield Case("no credential", body=chat(), headers=JSON)
    yield Case("no credential and a huge body", body=lambda: b" " * (4 * MAX_BODY), headers=JSON)
    yield Case("a key in the query", path=f"{CHAT}?key=x&api_key=y", body=chat(), headers=JSON)
    yield Case("a query that is no text", path=f"{CHAT}?x=%ff%00&&=", body=chat())


def rights() -> Iterator[Case]:
    for key in ("narrow-free", "without scope", "elsewhere", "embedding only"):
        yield Case(f"key: {key}", body=chat(), headers=_as(key))
        yield Case(f"models for key: {key}", "GET", "/v1/models", headers=_as(key)[:1])
    yield Case(
        "a forged address",
        body=chat(),
        headers=(*_as("elsewhere"), ("x-forwarded-for", "203.0.113.7")),
    )
    yield Case("an unknown model", body=chat("no-such-model"))
    yield Case("an unknown model, stream", body=chat("no-such-model", stream=True))
    yield Case("a model of another kind", body=chat("embed/ok"))
    given = {"model": "oracle/ok", "input": "x"}
    yield Case("a chat model for embeddings", path=EMBEDDINGS, body=_json(given))
    yield Case("the last call of a minute", body=chat(), headers=_as("one a minute"))
    yield Case("one call too many", body=chat(), headers=_as("one a minute, too"), times=2)


# --- where they knock, and how ----------------------------------------------------------------------------------------


def doors() -> Iterator[Case]:
    yield Case("models", "GET", "/v1/models", headers=KEY)
    yield Case("models with a query", "GET", "/v1/models?limit=x", headers=KEY)
    for name in (
        "oracle/*",
        "free/*",
        "no-such-model",
        "..%2f..%2fadmin",
        "%00",
        "%0d%0ax-injected:1",
        "%ff",
        "a%20b",
        "x" * 4000,
    ):
        yield Case(f"model {name[:20]}", "GET", f"/v1/models/{name}", headers=KEY)
    for path in (
        "/v1/nope",
        f"{CHAT}/",
        f"{CHAT}/extra",
        "/v1//chat/completions",
        "/v1/Chat/Completions",
        "/v1/v1/v1/chat/completions",
        "/v1/models/",
    ):
        yield Case(f"POST {path}", path=path, body=chat())
        yield Case(f"GET {path}", "GET", path, headers=KEY)
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"):
        yield Case(f"{method} chat", method, CHAT, headers=KEY)
        yield Case(f"{method} embeddings below nothing", method, "/embeddings", headers=KEY)
    for method in ("POST", "HEAD", "OPTIONS", "DELETE"):
        yield Case(f"{method} models", method, "/v1/models", headers=KEY)
        yield Case(f"{method} a model", method, "/v1/models/oracle/ok", headers=KEY)
    for path in ("/v1/key", "/v1/traces"):
        yield Case(f"{path} without a key", "GET", path, headers=())
        yield Case(f"{path} without scope", "GET", path, headers=_as("inference only")[:1])


def oddities() -> Iterator[Case]:
    accepts = (
        "text/event-stream",
        "text/html",
        "*/*",
        "",
        "garbage",
        ",,;q=,;;",
        "application/json;q=0",
        "a/b," * 2500,
    )
    for accept, stream in itertools.product(accepts, (False, True)):
        yield Case(
            f"Accept {accept[:20]!r}, stream {stream}",
            body=chat(stream=stream),
            headers=(*KEY, *JSON, ("accept", accept)),
        )
    for accept in accepts:
        yield Case(
            f"Accept {accept[:20]!r} for models",
            "GET",
            "/v1/models",
            headers=(*KEY, ("accept", accept)),
        )
    odd: dict[str, Headers] = {
        "many headers": tuple((f"x-filler-{n}", "f" * 50) for n in range(80)),
        "a long header": (("x-long", "f" * 8000),),
        "bytes": (("x-bytes", "\xff\xfe\x80"),),
        "cookies": (("cookie", "sessionid=x; __Host-gatehouse=y; a"),),
        "another host": (("x-forwarded-host", "evil.example"), ("forwarded", "host=evil.example")),
        "underscores": (("x_request_id", "abcdefgh"), ("content_type", "text/plain")),
        "a range": (("range", "bytes=0-1"), ("if-none-match", "*")),
        "an override": (("x-http-method-override", "DELETE"), ("x-method-override", "PUT")),
        "an upgrade": (("upgrade", "h2c"), ("connection", "upgrade")),
        "trailers": (("te", "trailers"),),
        "connection: close": (("connection", "close"),),
        "their own beta": (("openai-beta", "assistants=v2"), ("openai-organization", "o")),
    }
    for name, headers in odd.items():
        yield Case(f"odd: {name}", body=chat(), headers=(*KEY, *JSON, *headers))
        yield Case(f"odd for models: {name}", "GET", "/v1/models", headers=(*KEY, *headers))
    ids = {
        "x-request-id": ("my-own-id-0001", "short", "x" * 65, "quote'quote-1"),
        "request-id": ("my-own-id-0002",),
    }
    for name, values in ids.items():
        for value in values:
            yield Case(f"{name} {value[:20]}", body=chat(), headers=(*KEY, *JSON, (name, value)))


# --- upstreams that fail ----------------------------------------------------------------------------------------------

_PASSED = (400, 404, 408, 409, 413, 415, 422, 500, 502, 503, 529)
_OURS = (301, 302, 307, 401, 402, 403, 407)


def faults() -> Iterator[Case]:
    for status in (*_PASSED, *_OURS):
        yield from both(f"upstream {status}", f"status:{status}")
    yield from both("upstream 429", "status:429:retry-after=7")
    yield from both("upstream with its own headers", "status:418:x-own=1,set-cookie=a")
    for script in (
        "html",
        "empty",
        "garbage",
        "close",
        "reset",
        "echo-auth-in-error",
        "endless-headers",
        "gzip-bomb:1MiB",
        "hang",
    ):
        yield from both(f"upstream {script}", script)
    for script in ("cut:2", "cut-utf8", "cut:0"):
        yield from both(f"upstream {script}", script)
    for script in ("error-event:2", "error-event:0", "no-done", "stall:2", "stall:0", "bomb:4MiB"):
        yield Case(f"upstream {script}, stream", body=chat(f"oracle/~{script}", stream=True))
    for stream in (False, True):
        yield Case(f"nobody there, stream {stream}", body=chat("nobody", stream=stream))
    embedding = {"model": "embed/~status:500", "input": "a"}
    yield Case("an embedding that fails", path=EMBEDDINGS, body=_json(embedding))
    completion = {"model": "oracle/~cut:2", "prompt": "a b", "stream": True}
    yield Case("a completion that is cut", path=COMPLETIONS, body=_json(completion))


# --- callers who leave ------------------------------------------------------------------------------------------------


def departures() -> Iterator[Case]:
    for stream in (False, True):
        model = f"oracle/left-{stream}~hang"
        yield Case(
            f"left before an answer, stream {stream}",
            body=chat(model, stream=stream),
            leave="asked",
        )
    # Three events: the opening one and two tokens. Then the oracle says nothing until it is left.
    yield Case("left in a stream", body=chat("oracle/left-in~stall:2", stream=True), leave=3)
    yield Case(
        "left before the first token", body=chat("oracle/left-early~stall:0", stream=True), leave=1
    )
    yield Case("left an unpriced stream", body=chat("free/left-free~stall:1", stream=True), leave=2)
    yield Case(
        "left in the middle of the body", body=chat()[:-20], announced=len(chat()), leave="sent"
    )


def corpus() -> list[Case]:
    groups = (
        good,
        bases,
        deployments,
        bodies,
        media,
        callers,
        rights,
        doors,
        oddities,
        faults,
        departures,
    )
    return [case for group in groups for case in group()]
