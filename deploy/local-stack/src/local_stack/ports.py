"""Choosing TCP ports on 127.0.0.1."""

import errno
import secrets
import socket

# below the range from which Linux takes the local ports of outgoing connections, so that a server
# that is away for a moment finds its port free when it comes back
_CHOICES = range(20_000, 32_000)
_given: set[int] = set()


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1 at this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True


def free_port() -> int:
    """A free port that this process has not been given before."""
    for _ in range(200):
        port = secrets.choice(_CHOICES)
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise OSError(errno.EADDRINUSE, "no free TCP port found between 20000 and 32000 on 127.0.0.1")
