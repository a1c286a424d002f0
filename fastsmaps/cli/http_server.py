"""A small HTTP server: a few texts at fixed paths, and no client that could hold it up."""

from __future__ import annotations

import contextlib
import errno
import http.server
import socket
import socketserver
import threading
import time

from fastsmaps.cli.options import WrongUse
from fastsmaps.cli.output import print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from email.message import Message

    #: From a request's headers: the answer's status, its content, and headers of its own.
    Answer = Callable[[Message], tuple[int, bytes, Mapping[str, str]]]

# A request and its answer are over after so many seconds, or ended: a client that sends or reads
# a byte now and then would keep a thread for ever.
_REQUEST_TIMEOUT = 10.0
# So many connections at once; at one more the oldest is ended. A scrape is over in milliseconds.
_MAX_CONNECTIONS = 32
# How often the server looks for connections that take too long, in seconds.
_POLL_INTERVAL = 1.0

_METHODS = ("GET", "HEAD")
_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}


def address_of(text: str, port: int) -> tuple[str, int]:
    """Host and port of "ADDRESS:PORT", "[IPv6]:PORT" or either alone; WrongUse for others.

    Without an address (":PORT") the host is "", which stands for all addresses of the machine.
    """
    host, colon, number = text.rpartition(":")
    if not colon or number.endswith("]"):
        host, number = (text, str(port)) if not text.isdecimal() else ("127.0.0.1", text)
    bare = host.removeprefix("[").removesuffix("]")
    # The length first: Python refuses to convert more than 4,300 digits.
    fine = number.isascii() and number.isdecimal() and len(number) < 6 and int(number) < 1 << 16
    if not text or not fine or (":" in bare) != (host == f"[{bare}]") or (host and not bare):
        shown = repr(text[:80])
        raise WrongUse(f"--listen: expected ADDRESS:PORT, for IPv6 [ADDRESS]:PORT, got {shown}")
    return bare, int(number)


def own_names() -> set[str]:
    """The host names of this machine, as its kernel knows them: with and without the domain."""
    name = socket.gethostname().lower().removesuffix(".")
    return {name, name.partition(".")[0]} - {""}


def name_of(host: str) -> str:
    """The name that requests may have, of what --allow-host was given; WrongUse for a URL.

    A port is left out, since the answer does not depend on it, and so is the dot of a full name.
    """
    name = host.strip().lower()
    head, colon, port = name.rpartition(":")
    if colon and port.isdecimal():
        name = head
    name = name.removesuffix(".")
    if not name or any(sign in name for sign in "/:@[] "):
        shown = repr(host[:80])
        raise WrongUse(f"--allow-host: expected a host name such as metrics.example, got {shown}")
    return name


def is_served(host: str, names: Collection[str]) -> bool:
    """Whether requests for this host (the Host header's value) are answered.

    A page of any web site can make its own name lead to 127.0.0.1 (DNS rebinding), and a browser
    here would then hand it our answers. Such a request names that site in its Host header. So a
    name is answered only if it is localhost or one of `names`; an address always is.
    """
    bare = host.strip().lower()
    family = socket.AF_INET6 if bare.startswith("[") else socket.AF_INET
    if family == socket.AF_INET6:
        bare, closed, port = bare[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            return False
        port = port.removeprefix(":")
        bare = bare.partition("%")[0]  # fe80::1%eth0
    else:
        bare, _, port = bare.partition(":")
    if port and not port.isdecimal():
        return False
    with contextlib.suppress(OSError, ValueError):
        socket.inet_pton(family, bare)
        return True
    if family == socket.AF_INET6:
        return False
    bare = bare.removesuffix(".")
    return bare == "localhost" or bare.endswith(".localhost") or bare in names


class Server(socketserver.ThreadingTCPServer):
    """Listens at once; serve() answers in threads of its own until the program ends."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, names: Iterable[str] = ()) -> None:
        """Raises OSError where it cannot listen there.

        `host` "" listens on all addresses, IPv6 and IPv4. Requests are answered for `host`,
        for this machine's own names and for `names`, as name_of() gives them; see is_served().
        """
        self.names = {*names, host.lower().removesuffix(".")} - {""} | own_names()
        self._both = not host and socket.has_dualstack_ipv6()
        if not host:
            host = "::" if self._both else "0.0.0.0"
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except UnicodeError:  # an empty or overlong part between two dots
            raise OSError(errno.EINVAL, "not a host name") from None
        self.address_family, _, _, _, address = found[0]
        self.answers: Mapping[str, Answer] = {}
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(address, _Handler)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        text = str(host)
        return f"http://{f'[{text}]' if ':' in text else text}:{port}"

    def serve(self, answers: Mapping[str, Answer]) -> None:
        """Begins to answer."""
        self.answers = answers
        threading.Thread(
            target=self.serve_forever, args=(_POLL_INTERVAL,), name="serving", daemon=True
        ).start()

    # ---- what socketserver calls

    def server_bind(self) -> None:
        """Binds; with "" as host to IPv4 too."""
        if self._both:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def get_request(self) -> tuple[socket.socket, object]:
        """The next connection."""
        try:
            return super().get_request()
        except OSError:
            # Without descriptors it stays in the queue: trying again at once would be a busy loop.
            time.sleep(0.1)
            raise

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Starts a thread for a connection."""
        with self._lock:
            while len(self._open) >= _MAX_CONNECTIONS:
                self._end(next(iter(self._open)))
            self._open[request] = time.monotonic() + _REQUEST_TIMEOUT
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Ends a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Ends connections that take too long."""
        now = time.monotonic()
        with self._lock:
            for request in [one for one, until in self._open.items() if until < now]:
                self._end(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing where the client left; a line for everything else."""
        import sys

        error = sys.exc_info()[1]
        if isinstance(error, Exception) and not isinstance(error, OSError):
            print_error(f"cannot answer a request: {error!r}")

    def _end(self, request: socket.socket) -> None:
        """Its thread, which waits for the client, finds it closed."""
        self._open.pop(request, None)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    timeout = _REQUEST_TIMEOUT

    def parse_request(self) -> bool:
        """Whether it is a request that can be answered; otherwise it was refused."""
        if not super().parse_request():
            return False
        if self.request_version == "HTTP/0.9":  # one line, without headers
            self.send_error(505)
            return False
        hosts = self.headers.get_all("Host", [])
        if self.command not in _METHODS:
            self._answer(405, b"Only GET and HEAD are supported.\n", {"Allow": ", ".join(_METHODS)})
        elif len(hosts) > 1:
            self.send_error(400)
        elif hosts and "*" not in self.server.names and not is_served(hosts[0], self.server.names):
            self._answer(421, b"This host name is not allowed; see --allow-host.\n", {})
        else:
            return True
        return False

    def do_GET(self) -> None:
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(404)
            return
        self._answer(*answer(self.headers))

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**_PLAIN, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # In the standard's words: http.server's own would repeat the client's.
        super().send_error(code)

    def version_string(self) -> str:
        return "fastsmaps"

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: a line for each scrape would be all that a log holds."""
