"""The demo provider, driven as a transport is."""

import json

import pytest

from providers.demo import Demo
from providers.types import Letterhead, Origin, UpstreamRequest
from tests.providers.faultserver import Recorder

pytestmark = pytest.mark.asyncio


def asking(model: str, **more: object) -> UpstreamRequest:
    origin = Origin("in-process", "in-process", 0)
    body = {"model": model, "messages": [{"role": "user", "content": "one two"}], **more}
    letterhead = Letterhead(origin, b"POST", b"/chat/completions", [])
    return UpstreamRequest(letterhead, "0af3-1", json.dumps(body).encode())


async def told(request: UpstreamRequest) -> Recorder:
    recorder = Recorder()
    call = Demo().send(request, recorder)
    assert (call.is_sent, recorder.sent, recorder.calls) == (True, 0, [])
    return await recorder.over()


@pytest.mark.parametrize(("model", "status"), [("echo", 200), ("fail-503", 503)])
async def test_what_is_no_stream_comes_at_once(model: str, status: int) -> None:
    got = await told(asking(model))
    assert (got.is_whole, got.status) == (True, status)
    assert ("one two" in got.body.decode()) == (status == 200)


async def test_a_stream_comes_in_pieces_to_its_end_mark() -> None:
    got = await told(asking("echo", stream=True))
    assert (got.is_whole, got.pieces, got.calls) == (False, 3, ["head", "end"])
    assert got.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_cut_has_no_end(stream: bool) -> None:
    assert (await told(asking("cut", stream=stream))).calls == ["head", "failed"]
