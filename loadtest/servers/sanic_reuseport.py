"""The post's second program: a socket with SO_REUSEPORT in each of four processes. Changed: a current
Sanic wants a plain name, and its `serve` for a process of one's own is `worker_serve`, after `prepare`;
host and port are arguments; the processes end when their parent is told to."""
import signal
import sys
from multiprocessing import Process, set_start_method

from sanic import Sanic
from sanic.response import text
from sanic.worker.serve import worker_serve

app = Sanic("post")


@app.route("/")
async def test(request):
    return text("hello")


if __name__ == "__main__":
    set_start_method("fork")
    host, port = sys.argv[1:]
    app.prepare(host=host, port=int(port), motd=False)
    server_settings = dict(host=host, port=int(port), app_name=app.name, app_loader=None,
                           monitor_publisher=None, backlog=100, register_sys_signals=True)
    server_settings["reuse_port"] = True
    processes = []
    for _ in range(4):
        process = Process(target=worker_serve, kwargs=server_settings)
        process.daemon = True
        process.start()
        processes.append(process)

    def end(*_):
        for process in processes:
            process.terminate()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    for process in processes:
        process.join()
