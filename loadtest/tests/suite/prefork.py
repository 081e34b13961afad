"""A small pre-fork HTTP server for tests, of the standard library alone.

    prefork.py PORT WORKERS [shared|reuseport|parent|slow-import|hidden] [--body TEXT] [--chunked] [--mortal]

shared:      one listening socket, inherited by all workers
reuseport:   a socket with SO_REUSEPORT for each worker
parent:      only the parent accepts, and hands connections on (as node's cluster does)
slow-import: as shared, but its workers accept half a second after it listens
hidden:      as shared, but nobody may look into its processes
HUP replaces every worker, TTIN adds one, TTOU takes one away, TERM ends all. One helper process
inherits everything and serves nothing.
"""
import argparse, array, ctypes, os, select, signal, socket, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("workers", type=int)
parser.add_argument("mode", nargs="?", default="shared")
parser.add_argument("--body", default="hello")
parser.add_argument("--chunked", action="store_true")
parser.add_argument("--lives", type=float, default=1e9, help="seconds until it kills itself")
parser.add_argument("--mortal", action="store_true", help="ends when a worker of its is killed")
asked = parser.parse_args()


def listen():
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if asked.mode == "reuseport":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", asked.port))
    sock.listen(128)
    return sock


def answer(close):
    body = asked.body.encode()
    if asked.chunked:
        middle = len(body) // 2
        chunks = [body[:middle], body[middle:], b""] if middle else [body, b""]
        body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
        length = b"Transfer-Encoding: chunked\r\n"
    else:
        length = b"Content-Length: %d\r\n" % len(body)
    end = b"Connection: close\r\n" if close else b""
    return b"HTTP/1.1 200 OK\r\n" + length + end + b"\r\n" + body


def serve(poll, sources):
    """Serves listening sockets, and connections that come over a Unix socket, until TERM."""
    clients, ending = {}, []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
    while not ending or clients:
        if ending:  # drain: accept nothing more, answer what was accepted
            for source in sources:
                poll.unregister(source)
            sources = []
            for fd in [fd for fd, data in clients.items() if data[1] and not data[2]]:
                clients.pop(fd)[0].close()
            if not clients:
                break
        for fd, _ in poll.poll(0.05 if isinstance(poll, select.epoll) else 50):
            source = next((s for s in sources if s.fileno() == fd), None)
            if source is not None:
                try:
                    if source.family == socket.AF_UNIX:
                        _, got, _, _ = source.recvmsg(1, socket.CMSG_SPACE(4))
                        client = socket.socket(fileno=array.array("i", got[0][2])[0])
                    else:
                        client, _ = source.accept()
                except (BlockingIOError, IndexError):
                    continue
                clients[client.fileno()] = [client, False, b""]
                poll.register(client.fileno(), select.POLLIN)
                continue
            client, _, data = clients[fd]
            try:
                more = client.recv(65536)
            except OSError:
                more = b""
            data += more
            close = not more
            while b"\r\n\r\n" in data:
                head, data = data.split(b"\r\n\r\n", 1)
                close = close or bool(ending) or b"connection: close" in head.lower()
                client.sendall(answer(close))
            clients[fd][1:] = [True, data]
            if close:
                poll.unregister(fd)
                clients.pop(fd)[0].close()
    os._exit(0)


class Children:
    def __init__(self):
        self.pids, self.pipes = [], {}

    def start(self):
        sock = listen() if asked.mode == "reuseport" else None
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU):
                signal.signal(number, signal.SIG_IGN)
            if asked.mode == "hidden":
                ctypes.CDLL(None).prctl(4, 0)
            if asked.mode == "slow-import":
                time.sleep(0.5)
            source = theirs if asked.mode == "parent" else sock or shared
            source.setblocking(False)
            # One worker of a shared socket polls, as a sync worker does; the others have an epoll.
            poll = select.epoll() if len(self.pids) % 2 else select.poll()
            poll.register(source.fileno(), 1)
            if asked.mode == "parent":
                shared.close()
            serve(poll, [source])
        if sock:
            sock.close()
        theirs.close()
        self.pids.append(pid)
        self.pipes[pid] = ours

    def stop(self, pid):
        self.pids.remove(pid)
        self.pipes.pop(pid).close()
        os.kill(pid, signal.SIGTERM)


shared = None if asked.mode == "reuseport" else listen()
if os.fork() == 0:  # the helper
    while True:
        select.select([], [], [], 60)
children = Children()
wanted = []
for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGTERM, signal.SIGCHLD):
    signal.signal(number, lambda number, _: wanted.append(number))
for _ in range(asked.workers):
    children.start()
if asked.mode == "hidden":
    ctypes.CDLL(None).prctl(4, 0)
turn, begin = 0, time.monotonic()
while True:
    sources = [shared] if asked.mode == "parent" else []
    try:
        ready = select.select(sources, [], [], 0.05)[0]
    except InterruptedError:
        ready = []
    if ready:
        client, _ = shared.accept()
        turn = (turn + 1) % len(children.pids)
        pipe = children.pipes[children.pids[turn]]
        try:
            socket.send_fds(pipe, [b"x"], [client.fileno()])
        except BrokenPipeError:  # that child was killed just now
            pass
        client.close()
    if time.monotonic() - begin > asked.lives:
        sys.stderr.write("the end of my life\n")
        sys.stderr.flush()
        os.killpg(0, signal.SIGKILL)
    for number in wanted[:]:
        wanted.pop(0)
        if number == signal.SIGHUP:
            old = children.pids[:]
            for _ in old:
                children.start()
            for pid in old:
                children.stop(pid)
        elif number == signal.SIGTTIN:
            children.start()
        elif number == signal.SIGTTOU and len(children.pids) > 1:
            children.stop(children.pids[-1])
        elif number == signal.SIGTERM:
            os.killpg(0, signal.SIGTERM)
            os._exit(0)
        elif number == signal.SIGCHLD:
            while True:
                try:
                    pid, _ = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if pid == 0:
                    break
                if pid in children.pids and asked.mortal:
                    os.killpg(0, signal.SIGKILL)
                if pid in children.pids:  # it was killed: replace it
                    children.pids.remove(pid)
                    children.pipes.pop(pid).close()
                    children.start()
