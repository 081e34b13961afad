"""A small pre-fork HTTP server for tests whose workers always have something to do.

    busy.py PORT WORKERS

Each worker accepts, uses some milliseconds of CPU time, answers and closes. The parent has the listening socket
open and only waits for its children, or serves itself if it has none.
"""
import os, signal, socket, sys, time

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(128)


def serve():
    while True:
        client, _ = listener.accept()
        end = time.process_time() + 0.003
        while time.process_time() < end:
            pass
        try:
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        except OSError:
            pass
        client.close()


workers = int(sys.argv[2])
for _ in range(workers):
    if os.fork() == 0:
        serve()
if workers == 0:
    serve()
signal.pause()
