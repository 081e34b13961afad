"""Runs a server, and has one of its sockets get every connection, as macOS and the classic BSDs have it:

    as_on_a_mac.py PORT SOCKETS COMMAND...

When so many sockets listen on the port, a program of classic BPF of one instruction (`return 0`) is
attached to their group from outside: the kernel gives a copy of one of them (pidfd_getfd(2)), which takes
the right to trace the process. The server knows nothing of it. This process becomes the server, and a
child of it does the rest; when that fails it ends the server, with the reason.
"""
import ctypes
import os
import signal
import socket
import struct
import sys
import time

SO_ATTACH_REUSEPORT_CBPF = 51
PIDFD_GETFD = 438
RETURN_0 = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K


def listening(port):
    """The inodes of the sockets that listen on the port."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return {row[9] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}


def holder(inodes):
    """A process that has one of these sockets open, and its descriptor."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in {f"socket:[{it}]" for it in inodes}:
                    return int(pid), int(fd)
        except OSError:
            pass  # it has ended, or is not ours to see
    raise RuntimeError("nobody who has one of these sockets open can be seen")


def attach(port, sockets):
    deadline = time.monotonic() + 10
    while len(listening(port)) < sockets:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(listening(port))} of {sockets} sockets listen on port {port}")
        time.sleep(0.01)
    pid, fd = holder(listening(port))
    libc = ctypes.CDLL(None, use_errno=True)
    copy = libc.syscall(PIDFD_GETFD, os.pidfd_open(pid), fd, 0)
    if copy < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd: only root, or a tracer, may")
    program = ctypes.create_string_buffer(RETURN_0, len(RETURN_0))
    fprog = struct.pack("HP", 1, ctypes.addressof(program))
    with socket.socket(fileno=copy) as one:
        one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, fprog)


server = os.getpid()
if os.fork() == 0:
    try:
        attach(int(sys.argv[1]), int(sys.argv[2]))
    except Exception as reason:
        print(f"cannot steer: {reason}", file=sys.stderr, flush=True)
        os.kill(server, signal.SIGKILL)
    os._exit(0)
os.execvp(sys.argv[3], sys.argv[3:])
