"""The HTTP client for everything that is not the relay: identity providers, key sets, webhooks, provider tests.

It connects to addresses that the filter (`outbound.py`) has judged and to no others, follows no redirect, reads no
environment variable and no .netrc, accepts no compressed answer, and ends at a deadline for the whole request.

httpx gives no public way to hand its transport a network backend, so the transports here replace its connection pool
(`_pool`, httpx 0.28); `test_the_client_connects_to_judged_addresses_only` breaks if that ever stops working.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple, cast

import httpcore
import httpx
import msgspec

from tenants.outbound import AddressFilter, BadAnswer, Unreachable

TOTAL_SECONDS = 5.0
CONNECT_SECONDS = 2.0
MAX_ANSWER = 256 * 1024
_MAX_CONNECTIONS = 20
_SLACK = 0.001  # a time limit handed to a socket is never zero or negative, which would mean something else

# The time by which the current context's request must be over (monotonic). httpx limits single reads only, and one byte
# every few seconds would pass those for ever. Set anew by every request; exact unless one context reads two answers at once.
_deadline: ContextVar[float] = ContextVar("outbound_deadline", default=float("inf"))


def _time_left(timeout: float | None) -> float:
    left = _deadline.get() - time.monotonic()
    return left if timeout is None else min(left, timeout)


class _Stream(httpcore.NetworkStream):
    """A connection whose reads and writes end at the deadline."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if (left := _time_left(timeout)) <= 0:
            raise httpcore.ReadTimeout("The whole request took too long.")
        return self._inner.read(max_bytes, left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if (left := _time_left(timeout)) <= 0:
            raise httpcore.WriteTimeout("The whole request took too long.")
        self._inner.write(buffer, left)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = max(_time_left(timeout), _SLACK)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to judged addresses only. TLS and Host never see the address, they keep the name."""

    def __init__(self, addresses: AddressFilter) -> None:
        self._addresses = addresses
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for address in self._addresses.resolve_sync(host, port):
            left = max(_time_left(timeout), _SLACK)
            try:
                return _Stream(
                    self._inner.connect_tcp(address.ip, port, left, local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address.")


class _CheckedAsyncBackend(httpcore.AsyncNetworkBackend):
    """`_CheckedBackend` for an event loop; the deadline is a cancellation there, see `_AsyncTransport`."""

    def __init__(self, addresses: AddressFilter) -> None:
        self._addresses = addresses
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (httpcore's signature)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for address in await self._addresses.resolve(host, port):
            try:
                return await self._inner.connect_tcp(
                    address.ip, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address.")


class _Transport(httpx.HTTPTransport):
    def __init__(self, addresses: AddressFilter, verify: ssl.SSLContext, total: float) -> None:
        super().__init__(verify=verify, trust_env=False)
        self._total = total
        self._pool = httpcore.ConnectionPool(
            ssl_context=verify,
            max_connections=_MAX_CONNECTIONS,
            keepalive_expiry=5.0,
            network_backend=_CheckedBackend(addresses),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        _deadline.set(time.monotonic() + self._total)
        response = super().handle_request(request)
        if _is_compressed(response):
            response.close()
            raise httpx.DecodingError("The answer is compressed, which was not asked for.")
        return response


class _AsyncTransport(httpx.AsyncHTTPTransport):
    def __init__(self, addresses: AddressFilter, verify: ssl.SSLContext, total: float) -> None:
        super().__init__(verify=verify, trust_env=False)
        self._total = total
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=verify,
            max_connections=_MAX_CONNECTIONS,
            keepalive_expiry=5.0,
            network_backend=_CheckedAsyncBackend(addresses),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        deadline = asyncio.get_running_loop().time() + self._total
        try:
            async with asyncio.timeout_at(deadline):
                response = await super().handle_async_request(request)
        except TimeoutError as error:
            raise httpx.ReadTimeout("The whole request took too long.") from error
        if _is_compressed(response):
            await response.aclose()
            raise httpx.DecodingError("The answer is compressed, which was not asked for.")
        response.stream = _TimedBody(cast(httpx.AsyncByteStream, response.stream), deadline)
        return response


class _TimedBody(httpx.AsyncByteStream):
    """An answer's body that ends at the deadline (loop time)."""

    def __init__(self, inner: httpx.AsyncByteStream, deadline: float) -> None:
        self._inner = inner
        self._deadline = deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._inner)
        while True:
            try:
                async with asyncio.timeout_at(self._deadline):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise httpx.ReadTimeout("The whole request took too long.") from error
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def _is_compressed(response: httpx.Response) -> bool:
    coding: str = response.headers.get("content-encoding", "identity")
    return coding.strip().lower() != "identity"


@cache
def _default_verify() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


def http_client(
    addresses: AddressFilter,
    timeout: float = TOTAL_SECONDS,
    verify: ssl.SSLContext | None = None,
) -> httpx.Client:
    """A client that reaches judged addresses only. `timeout` (seconds) limits the whole request, body included.

    Its calls raise httpx's errors and the filter's (`AddressRefused`, `NameNotFound`).
    """
    return httpx.Client(
        transport=_Transport(addresses, verify or _default_verify(), timeout),
        **_client_options(timeout),
    )


def async_http_client(
    addresses: AddressFilter,
    timeout: float = TOTAL_SECONDS,
    verify: ssl.SSLContext | None = None,
) -> httpx.AsyncClient:
    """`http_client` for an event loop (asyncio or uvloop)."""
    return httpx.AsyncClient(
        transport=_AsyncTransport(addresses, verify or _default_verify(), timeout),
        **_client_options(timeout),
    )


def _client_options(timeout: float) -> dict[str, Any]:
    return {
        "timeout": httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
        "trust_env": False,
        "follow_redirects": False,
        "headers": {"accept-encoding": "identity", "user-agent": "gatehouse"},
    }


class Answer(NamedTuple):
    """What the other side answered, whole and within the size limit."""

    status: int
    content_type: str
    body: bytes


def get(
    url: str,
    *,
    addresses: AddressFilter,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    max_bytes: int = MAX_ANSWER,
    timeout: float = TOTAL_SECONDS,
    verify: ssl.SSLContext | None = None,
) -> Answer:
    """One GET, whatever its status. A body over `max_bytes` is refused while it is read, not afterwards.

    `query` goes behind the `?`, which a configured URL may not have in it.

    Raises BadUrl, AddressRefused, NameNotFound, Unreachable, BadAnswer (too large, compressed).
    """
    addresses.check_url(url)
    try:
        with (
            http_client(addresses, timeout, verify) as client,
            client.stream(
                "GET", f"{url}?{query}" if query else url, headers=dict(headers or {})
            ) as response,
        ):
            body = _read_bounded(response, max_bytes)
    except httpx.TimeoutException as error:
        raise Unreachable(f"{_host_of(url)} did not answer within {timeout:g} seconds.") from error
    except httpx.DecodingError as error:
        raise BadAnswer(str(error), 0) from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise Unreachable(
            f"{_host_of(url)} could not be reached: {type(error).__name__}."
        ) from error
    return Answer(response.status_code, response.headers.get("content-type", ""), body)


def get_json(
    url: str,
    *,
    addresses: AddressFilter,
    headers: Mapping[str, str] | None = None,
    max_bytes: int = MAX_ANSWER,
    timeout: float = TOTAL_SECONDS,
    verify: ssl.SSLContext | None = None,
) -> Any:
    """The JSON value at `url`. Raises what `get` raises, and BadAnswer unless it is a 200 with JSON in it."""
    answer = get(
        url,
        addresses=addresses,
        headers=headers,
        max_bytes=max_bytes,
        timeout=timeout,
        verify=verify,
    )
    if answer.status != 200:
        raise BadAnswer(f"{_host_of(url)} answered with status {answer.status}.", answer.status)
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(f"{_host_of(url)} answered something that is not JSON.", 200) from error


def _read_bounded(response: httpx.Response, max_bytes: int) -> bytes:
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > max_bytes:
            message = f"{response.url.host} answered more than {max_bytes} bytes."
            raise BadAnswer(message, response.status_code)
    return bytes(body)


def _host_of(url: str) -> str:
    return httpx.URL(url).host
