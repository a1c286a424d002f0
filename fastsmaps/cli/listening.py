"""Where a server listens: an address, or a socket that systemd opened for it."""

from __future__ import annotations

import errno
import os
import socket

from fastsmaps.cli.options import UsageError

# Connections that the kernel queues until they are accepted.
_QUEUE = 64
# sd_listen_fds(3): the first descriptor that systemd passes.
_FIRST_PASSED = 3


def parse_address(text: str, port: int) -> tuple[str, int]:
    """Parse "ADDRESS:PORT", "[IPv6]:PORT", an address or a port; UsageError for anything else.

    Without an address (":PORT") the host is "", for all addresses of the machine.
    """
    host, colon, number = text.rpartition(":")
    if not colon or number.endswith("]"):
        host, number = (text, str(port)) if not text.isdecimal() else ("127.0.0.1", text)
    bare = host.removeprefix("[").removesuffix("]")
    # Check the length first: Python refuses to convert more than 4,300 digits.
    is_port = number.isascii() and number.isdecimal() and len(number) < 6 and int(number) < 1 << 16
    if not text or not is_port or (":" in bare) != (host == f"[{bare}]") or (host and not bare):
        shown = repr(text[:80])
        raise UsageError(f"--listen: expected ADDRESS:PORT, for IPv6 [ADDRESS]:PORT, got {shown}")
    return bare, int(number)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there, for "" on all addresses, IPv6 and IPv4; or OSError."""
    both = not host and socket.has_dualstack_ipv6()
    if not host:
        host = "::" if both else "0.0.0.0"
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:  # a label between two dots is empty or too long
        raise OSError(errno.EINVAL, "not a host name") from None
    family, _, _, _, address = addresses[0]
    try:
        return socket.create_server(address, family=family, backlog=_QUEUE, dualstack_ipv6=both)
    except OSError as error:  # its text repeats the address
        raise OSError(error.errno, os.strerror(error.errno or 0)) from None


def passed_socket() -> socket.socket | None:
    """Return the socket that systemd passed to this process; None if it passed none.

    The variables are removed, so that no child takes it for its own. Raises UsageError if it passed
    several, or one that does not listen on TCP. Source: sd_listen_fds(3).
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or count in ("", "0"):
        return None
    if count != "1":
        raise UsageError(f"expected one socket from systemd (LISTEN_FDS), got {count}")
    try:
        passed = socket.socket(fileno=_FIRST_PASSED)
        os.set_inheritable(_FIRST_PASSED, False)
        passed.setblocking(True)
        is_listening = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise UsageError(f"the descriptor from systemd is not a socket: {error.strerror}") from None
    if not is_listening or passed.family not in (socket.AF_INET, socket.AF_INET6):
        passed.close()
        raise UsageError("the socket from systemd does not listen on TCP (ListenStream=)")
    return passed
