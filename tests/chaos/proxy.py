"""A wire that can be cut: passes TCP on to another address until it is told not to."""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on `port` for as long as it is not cut. Every connection is two threads; fine for a handful."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._pairs: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.delay = 0.0
        """Seconds that everything takes on its way, each way."""
        self._flows = threading.Event()
        self._flows.set()
        self._listener = _listen(0)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._accept_on(self._listener)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cut()

    def cut(self) -> None:
        """Close everything; who connects now is refused."""
        self._flows.set()
        self._shut(self._listener)
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for sock in pairs:
            self._shut(sock)

    def freeze(self) -> None:
        """Nothing passes any more, and nothing is closed: the other side seems to think."""
        self._flows.clear()

    def mend(self) -> None:
        """As at the beginning, on the same port."""
        if self._flows.is_set():
            self._listener = _listen(self.port)
            self._accept_on(self._listener)
        self._flows.set()

    def _accept_on(self, listener: socket.socket) -> None:
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                # The other side is away; whoever comes later may find it again.
                self._shut(near)
                continue
            far.settimeout(None)
            with self._lock:
                self._pairs |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                time.sleep(self.delay)
                sink.sendall(data)
        for sock in (source, sink):
            self._shut(sock)
            with self._lock:
                self._pairs.discard(sock)

    @staticmethod
    def _shut(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def _listen(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=128)
