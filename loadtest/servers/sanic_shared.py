"""The post's first program: one socket for four processes. Changed: a current Sanic wants a plain name and
the guard, and host and port are arguments."""
import sys

from sanic import Sanic
from sanic.response import text

app = Sanic("post")


@app.route("/")
async def test(request):
    return text("hello")


if __name__ == "__main__":
    host, port = sys.argv[1:]
    app.run(host=host, port=int(port), sock=None, debug=False, workers=4)
