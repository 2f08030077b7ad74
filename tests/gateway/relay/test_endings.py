"""In which order a call ends: what a caller may act on is in the journal before they can see it."""

from tests.gateway.relay.edge import Edge, known
from usage.records import Settlement

CALL = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
PIECE = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}\n\n'
)
DONE = b"data: [DONE]\n\n"


class WatchfulEdge(Edge):
    """Notes whether the end mark of a stream was relayed before the call was settled."""

    too_early = False

    def relay(self, data: bytes) -> None:
        self.too_early |= b"[DONE]" in data and not self.of_kind(Settlement)
        super().relay(data)


def test_a_stream_is_settled_before_its_end_mark_is_relayed() -> None:
    edge = WatchfulEdge(found=known())
    edge.call(CALL).stream(PIECE, USAGE, DONE)
    assert not edge.too_early
    assert edge.body == PIECE + DONE
    assert edge.finished, "nobody waits for what may come after the mark"
    assert (edge.settlement.usage.input, edge.settlement.usage.output) == (3, 1)
    edge.assert_nothing_left()


def test_what_an_upstream_does_after_its_end_mark_changes_nothing() -> None:
    edge = WatchfulEdge(found=known()).call(CALL).stream(PIECE, DONE)
    edge.exchange.upstream_bytes(PIECE)
    edge.exchange.upstream_end()
    edge.exchange.client_gone()
    assert edge.body == PIECE + DONE
    assert edge.settlement.status == 200
    edge.assert_nothing_left()


def test_an_end_mark_without_its_blank_line_is_one_as_well() -> None:
    edge = WatchfulEdge(found=known())
    edge.call(CALL).stream(PIECE, USAGE, b"data: [DONE]\n")
    edge.exchange.upstream_end()
    assert not edge.too_early
    assert edge.body.startswith(PIECE + DONE)
    assert edge.settlement.error_code is None
    edge.assert_nothing_left()
