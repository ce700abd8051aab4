"""The floor: uvicorn reads the same body and answers a constant; nothing that serves with uvicorn can be faster."""

import asyncio
import sys
from typing import Any

import uvicorn

ANSWER = b'{"predictions":[0],"drift_detected":false,"drift_score":0.1234}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read, answer."""
    if scope["type"] != "http":
        await asyncio.sleep(0)
        return
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, lifespan="off", loop="uvloop")
