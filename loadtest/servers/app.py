"""What the Python servers run, as ASGI (`app`) and as WSGI (`wsgi`).

/         says hello
/block/N  blocks its worker (or its thread) for N microseconds, and says hello
/pid      says which process answers
"""
import os
import time

HEADERS = [("content-type", "text/plain")]


def answer(path):
    if path == "/pid":
        return str(os.getpid()).encode()
    if path.startswith("/block/"):
        time.sleep(int(path[len("/block/"):]) / 1e6)
    return b"hello"


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = answer(scope["path"])
    headers = [*HEADERS, ("content-length", str(len(body)))]
    headers = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ, start_response):
    body = answer(environ["PATH_INFO"])
    start_response("200 OK", [*HEADERS, ("content-length", str(len(body)))])
    return [body]
