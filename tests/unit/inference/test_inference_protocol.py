import asyncio
import json

import pytest
import uvicorn

from aiops_inference import protocol
from aiops_inference.endpoint import send_json
from aiops_inference.protocol import BoundedProtocol


async def echo(scope, receive, send):
    """Answer with the path."""
    await receive()
    await send_json(send, 200, json.dumps(scope["path"]).encode())


async def talk(*pieces):
    """All that a server of these protocols sends to a client, until it hangs up."""
    config = uvicorn.Config(echo, http=BoundedProtocol, log_config=None, lifespan="off")
    config.load()
    state = uvicorn.server.ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedProtocol(config, state, {}), "127.0.0.1", 0)
    async with server, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
        return received


@pytest.mark.parametrize(
    ("pieces", "before"),
    [
        ([], 0),
        ([b"GET / HT"], 0),
        ([b"GET / HTTP/1.1\r\nHost"], 0),
        ([b"GET /a HTTP/1.1\r\n\r\n", b"GET /b HTTP/1.1\r\nHo"], 1),
    ],
)
def test_headers_that_do_not_arrive_are_given_up(monkeypatch, pieces, before):
    """Nothing at all, half a request, and half a second one: 408 in JSON, and the connection is closed."""
    monkeypatch.setattr(protocol, "HEADERS_TIMEOUT", 0.05)
    *answered, refused = asyncio.run(talk(*pieces)).split(b"HTTP/1.1 ")[1:]
    assert [b"200 OK"] * before == [answer.partition(b"\r\n")[0] for answer in answered]
    head, _, body = refused.partition(b"\r\n\r\n")
    assert b"408 Request Timeout\r\ncontent-type: application/json" in head
    assert "the request's headers did not arrive within 0.05 s" == json.loads(body)["error"]
