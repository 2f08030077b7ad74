"""Requests that two parsers might read differently, each with a second request hidden where a lax one would find it."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.gateway.wire import request_bytes

PATH = b"/v1/chat/completions"
_LINE = b"POST " + PATH + b" HTTP/1.1"


@dataclass(frozen=True)
class Variant:
    """What is sent. `is_refused`: it must be answered with a refusal that ends the connection; else that is one of two
    good ends, and an answer of its own the other.
    """

    name: str
    sent: bytes
    is_refused: bool = True


def variants(key: str) -> Iterator[Variant]:
    """Names are distinct."""
    hidden = request_bytes(key, "oracle/canary", "smuggled-by-a-caller", stream=False)
    corpus = _Corpus(key, hidden)
    yield from corpus.codings()
    yield from corpus.lengths()
    yield from corpus.line_ends()
    yield from corpus.names()
    yield from corpus.values()
    yield from corpus.chunks()
    yield from corpus.trailers()
    yield from corpus.targets()
    yield from corpus.hosts()


class _Corpus:
    def __init__(self, key: str, hidden: bytes) -> None:
        self._key = key.encode()
        self._hidden = hidden
        #: For a reader of chunks the body ends at once; for one of lengths it is all of this.
        self._payload = b"0\r\n\r\n" + hidden

    def _request(
        self,
        *lines: bytes,
        body: bytes = b"",
        line: bytes = _LINE,
        host: bytes | None = b"host: gatehouse",
    ) -> bytes:
        usual = (
            *((line,) if host is None else (line, host)),
            b"content-type: application/json",
            b"authorization: Bearer " + self._key,
        )
        return b"\r\n".join((*usual, *lines, b"", b"")) + body

    def codings(self) -> Iterator[Variant]:
        """Transfer codings that are not quite `chunked`, beside a length and without one."""
        length = b"content-length: %d" % len(self._payload)
        header = b"transfer-encoding: "
        values = (
            *(b"chunked", b"Chunked", b"chunked ", b"chunked\t", b"\tchunked", b"  chunked"),
            *(b"xchunked", b"chunkedx", b"chunke", b"chunked;", b"chunked;q=1", b'"chunked"'),
            *(b"'chunked'", b"chunked, chunked", b"chunked,chunked", b"chunked,", b",chunked"),
            *(b"chunked, identity", b"identity, chunked", b"identity", b"gzip", b"gzip, chunked"),
            *(b"chunked, gzip", b"deflate", b"cow", b"cow, chunked", b"chunked, cow", b""),
            *(b"\x0bchunked", b"\x0cchunked", b"chunked\x0b", b"chunked\x00", b"\x00chunked"),
            *(b"chu\xadnked", b"\xa0chunked", b"chunked\xff", b"c hunked", b"null", b"0", b"true"),
        )
        for value in values:
            for beside in (True, False):
                lines = (length, header + value) if beside else (header + value,)
                # A good coding alone is a good request, and what follows its end is the next one.
                if beside or value.strip(b" \t").lower() != b"chunked":
                    yield Variant(
                        f"coding {value!r}{' and a length' if beside else ''}",
                        self._request(*lines, body=self._payload),
                    )
        for name in (b"transfer-encoding", b"Transfer-Encoding", b"TRANSFER-ENCODING"):
            yield Variant(
                f"{name!r} before a length",
                self._request(name + b": chunked", length, body=self._payload),
            )
        for second in (b"chunked", b"identity", b"x", b""):
            yield Variant(
                f"two codings, {second!r}",
                self._request(header + b"chunked", header + second, body=self._payload),
            )
        for name in (b"transfer_encoding", b"x-transfer-encoding", b"te", b"transferencoding"):
            yield Variant(
                f"{name!r} is no coding",
                self._request(length, name + b": chunked", body=self._payload),
                is_refused=False,
            )

    def lengths(self) -> Iterator[Variant]:
        size = len(self._payload)
        wrong = (
            *(b"+%d" % size, b"-%d" % size, b"-1", b"0x%x" % size, b"%d, %d" % (size, size)),
            *(b"%d,0" % size, b"0, %d" % size, b"%d %d" % (size, size), b"%d;" % size, b""),
            *(b"%d.0" % size, b"1e3", b"%d\x00" % size, b"\x00%d" % size, b"%d\x0b" % size),
            *(b"\x0c%d" % size, b"x", b"%dx" % size, b"%d_0" % size, b"1_0", b'"%d"' % size),
            *(b"9" * 19, b"9" * 20, b"9" * 40, b"0" * 5000 + b"1", b"18446744073709551616"),
            *(b"4294967296" * 3, "٥".encode(), "５".encode(), b"0b1", b"0o7", b"NaN", b"Infinity"),
            *(b"\xb2", b"chunked", b"#", b"%30", b"(1)", b"1/1", b"--1", b"+-1", b"0-"),
        )
        for value in wrong:
            yield Variant(
                f"length {value[:40]!r} of {len(value)}",
                self._request(b"content-length: " + value, body=self._payload),
            )
        length = b"content-length: %d" % size
        for other in (b"0", b"%d" % size, b"%d" % (size - 1), b"5", b""):
            for first in (True, False):
                second = b"content-length: " + other
                lines = (length, second) if first else (second, length)
                yield Variant(
                    f"two lengths, {other!r} {'last' if first else 'first'}",
                    self._request(*lines, body=self._payload),
                )
        for value in (b" %d", b"\t%d", b"%d ", b"%d\t", b"000%d"):
            yield Variant(
                f"a good length as {value!r}",
                self._request(b"content-length:" + value % size, body=self._payload),
                is_refused=False,
            )
        for name in (b"content_length", b"x-content-length", b"contentlength", b"content-lengt"):
            yield Variant(
                f"{name!r} is no length",
                self._request(b"content-length: %d" % size, name + b": 0", body=self._payload),
                is_refused=False,
            )

    def line_ends(self) -> Iterator[Variant]:
        """Other ends in the place of each kind of line."""
        good = self._request(b"x-first: 1", b"content-length: %d" % len(self._payload), b"x-l: 1")
        for end in (
            b"\n",
            b"\r",
            b"\n\r",
            b"\r\r\n",
            b"\r\n\r",
            b"\x0b",
            b"\x0c",
            b"\x85",
            b"\0\r\n",
        ):
            places = {
                "the request line": (_LINE + b"\r\n", _LINE + end),
                "the host": (b"gatehouse\r\n", b"gatehouse" + end),
                "a header": (b"x-first: 1\r\n", b"x-first: 1" + end),
                "the last header": (b"x-l: 1\r\n\r\n", b"x-l: 1" + end + b"\r\n"),
                "the empty line": (b"x-l: 1\r\n\r\n", b"x-l: 1\r\n" + end),
            }
            for place, (usual, other) in places.items():
                # What looks like a part of a value is one; what has no end at all is waited for.
                sure = end not in {b"\x85"} and not (
                    end == b"\r\n\r" and place != "the request line"
                )
                yield Variant(
                    f"{end!r} after {place}",
                    good.replace(usual, other) + self._payload,
                    is_refused=sure,
                )
        for fold in (b" ", b"\t", b"  ", b" \t", b" x: ", b"\tcontent-length: 0"):
            yield Variant(
                f"folded by {fold!r}",
                self._request(
                    b"x-a: b\r\n" + fold + b"c",
                    b"content-length: %d" % len(self._payload),
                    body=self._payload,
                ),
            )
            yield Variant(
                f"the length folded by {fold!r}",
                self._request(
                    b"content-length:\r\n" + fold + b"%d" % len(self._payload), body=self._payload
                ),
            )
            yield Variant(
                f"the coding folded by {fold!r}",
                self._request(b"transfer-encoding:\r\n" + fold + b"chunked", body=self._payload),
            )
            yield Variant(
                f"the first header folded by {fold!r}",
                self._request(
                    b"content-length: 0", line=_LINE + b"\r\n" + fold, host=b"host: gatehouse"
                ),
            )

    def names(self) -> Iterator[Variant]:
        """What is not in a header's name, in front of it, in it and behind it."""
        length = b"content-length: %d" % len(self._payload)
        for n in (*range(0x21), *b'"(),/:;<=>?@[\\]{}\x7f\x80\xa0\xff'):
            if n in b"\r\n:":
                continue
            odd = bytes((n,))
            yield Variant(
                f"{odd!r} behind a name",
                self._request(
                    length, b"transfer-encoding" + odd + b": chunked", body=self._payload
                ),
            )
        for odd in (b" ", b"\t", b"\0", b"\x0b", b"(", b"\xff"):
            yield Variant(
                f"{odd!r} in a name",
                self._request(length, b"transfer" + odd + b"encoding: chunked", body=self._payload),
            )
        for line in (b"transfer-encoding", b": chunked", b"transfer-encoding chunked", b":", b"="):
            yield Variant(f"a line {line!r}", self._request(length, line, body=self._payload))

    def values(self) -> Iterator[Variant]:
        """Controls in a header's value."""
        length = b"content-length: %d" % len(self._payload)
        for n in (*range(9), *range(0x0B, 0x20), 0x7F):
            if n == 0x0D:
                continue
            yield Variant(
                f"{bytes((n,))!r} in a value",
                self._request(
                    length, b"x-a: b" + bytes((n,)) + b"content-length: 0", body=self._payload
                ),
            )

    def chunks(self) -> Iterator[Variant]:
        """Sizes, extensions and ends of chunks; what a lax reader would go on with is the hidden request."""

        def chunked(name: str, body: bytes, *, is_refused: bool = True) -> Variant:
            return Variant(
                f"chunks: {name}",
                self._request(b"transfer-encoding: chunked", body=body),
                is_refused=is_refused,
            )

        rest = b"\r\n{\r\n0\r\n\r\n" + self._hidden
        for size in (
            *(b"0x1", b"+1", b"-1", b" 1", b"1 ", b"\t1", b"1\t", b"1_", b"_1", b"1h", b"g", b""),
            *(b"1.0", b"1,1", b"1 1", b"\x001", b"1\x00", b"#1", b"f" * 17, b"1" + b"0" * 16),
            *(b'"1"', b"1\x0b", "١".encode(), b"\xb9", b"0x", b"x1", b"1\xff", b"--1", b"(1)"),
        ):
            yield chunked(f"size {size!r}", size + rest)
        for extension in (b";a\nb", b";a\rb", b";a=\x00", b";\n", b"\n", b"\r", b";a=b\x0b\n"):
            yield chunked(f"extension {extension!r}", b"1" + extension + rest)
        for end in (b"", b"\n", b"\r", b"x\r\n", b"\r\r\n", b"\n\r", b"\0\r\n", b" \r\n"):
            yield chunked(f"data ended by {end!r}", b"1\r\n{" + end + b"0\r\n\r\n" + self._hidden)
        for end in (b"\n", b"\r\r\n", b" \r\n", b"\0\r\n", b"\x0b\r\n"):
            yield chunked(f"last size ended by {end!r}", b"1\r\n{\r\n0" + end + b"\r\n")
        for good in (b"1", b"01", b"0001", b"1;a", b"1;a=b", b'1;a="b"'):
            yield chunked(f"good size {good!r}", good + b"\r\n{\r\n0\r\n\r\n", is_refused=False)

    def trailers(self) -> Iterator[Variant]:
        for line in (
            *(b"content-length: 5", b"Content-Length: 0", b"transfer-encoding: chunked", b"te: x"),
            *(b"host: other", b"Host: gatehouse", b"authorization: Bearer x", b"trailer: a"),
            *(b"x-a : b", b"x a: b", b": b", b" x-a: b", b"x-a: b\x00c", b"x-a", b"x-a: b\nx: y"),
            *(b"x-a: b\r\n folded", b"x-a: b\rc", b"x\xff: b"),
        ):
            yield Variant(
                f"trailer {line!r}",
                self._request(
                    b"transfer-encoding: chunked",
                    body=b"1\r\n{\r\n0\r\n" + line + b"\r\n\r\n" + self._hidden,
                ),
            )
        for line in (b"x-a: b", b"x-checksum: 0", b"x-a: b\r\nx-b: c"):
            yield Variant(
                f"good trailer {line!r}",
                self._request(
                    b"transfer-encoding: chunked", body=b"1\r\n{\r\n0\r\n" + line + b"\r\n\r\n"
                ),
                is_refused=False,
            )

    def targets(self) -> Iterator[Variant]:
        """Request lines of other forms. None of them is a call with a key that is checked and a model that is `ok`."""
        absolute = b"http://other.example" + PATH
        lines = (
            *(b"POST " + absolute + b" HTTP/1.1", b"POST http://" + PATH + b" HTTP/1.1"),
            *(b"POST http:" + PATH + b" HTTP/1.1", b"POST https://gatehouse" + PATH + b" HTTP/1.1"),
            *(b"POST //gatehouse" + PATH + b" HTTP/1.1", b"POST gatehouse:80 HTTP/1.1"),
            *(b"POST * HTTP/1.1", b"POST gatehouse" + PATH + b" HTTP/1.1", b"CONNECT a:1 HTTP/1.1"),
            *(b"POST  " + PATH + b" HTTP/1.1", b"POST " + PATH + b"  HTTP/1.1"),
            *(_LINE + b" ", b" " + _LINE, b"\t" + _LINE, b"POST\t" + PATH + b"\tHTTP/1.1"),
            *(b"POST " + PATH, b"POST " + PATH + b" ", PATH + b" HTTP/1.1", b"POST HTTP/1.1"),
            *(
                b"POST " + PATH + b" HTTP/" + v
                for v in (b"0.9", b"1.2", b"1.10", b"2.0", b"3", b"1")
            ),
            *(
                b"POST " + PATH + b" " + v
                for v in (b"http/1.1", b"HTTP 1.1", b"HTP/1.1", b"HTTP/1,1")
            ),
            *(
                b"post " + PATH + b" HTTP/1.1",
                b"POST\0 " + PATH + b" HTTP/1.1",
                b"P" * 30 + b" / HTTP/1.1",
            ),
            *(
                b"POST " + PATH + odd + b" HTTP/1.1"
                for odd in (b"\0", b"\x01", b"\x7f", b"\xff", b"\t")
            ),
            *(b"POST " + PATH + b" x HTTP/1.1", b"POST " + PATH + b" HTTP/1.1 x", b"\0" + _LINE),
            *(b"POST " + PATH + b"#f HTTP/1.1", b"POST " + PATH + b"/../x HTTP/1.1"),
            *(b"POST " + b"/a" * 3000 + b" HTTP/1.1", b"\x16\x03\x01\x02\x00\x01"),
        )
        for n, line in enumerate(lines):
            yield Variant(
                f"line {n} {line[:60]!r}",
                self._request(
                    b"content-length: %d" % len(self._payload), body=self._payload, line=line
                ),
                is_refused=False,
            )

    def hosts(self) -> Iterator[Variant]:
        length = b"content-length: %d" % len(self._payload)
        for host in (
            *(b"a/b", b"a?b", b"a#b", b"user@gatehouse", b"a b", b"a,b", b"a;b", b"a\\b", b"a:b"),
            *(
                b"a:80:80",
                b"[::1",
                b"::1]",
                b"a\tb",
                b"a<b",
                b'a"b',
                b"a'b",
                b"a|b",
                b"a^b",
                b"a\xffb",
            ),
        ):
            yield Variant(
                f"host {host!r}",
                self._request(length, body=self._payload, host=b"host: " + host),
            )
        for second in (b"host: gatehouse", b"Host: other", b"host:"):
            yield Variant(
                f"two hosts, {second!r}", self._request(length, second, body=self._payload)
            )
        yield Variant("no host", self._request(length, body=self._payload, host=None))
