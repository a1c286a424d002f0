"""A small HTTP server for fixed paths; no client can block it."""

from __future__ import annotations

import contextlib
import http.server
import socket
import socketserver
import threading
import time

from fastsmaps.cli.options import UsageError
from fastsmaps.cli.output import print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from email.message import Message

    from fastsmaps.cli.tls import Tls

    #: From a request's headers to the answer's status, body and additional headers.
    Answer = Callable[[Message], tuple[int, bytes, Mapping[str, str]]]

# Seconds for a request and its answer, after which the connection is closed: a client that sends or
# reads a byte now and then would otherwise occupy a thread for ever.
_REQUEST_TIMEOUT = 10.0
# Connections at a time; one more closes the oldest. A scrape takes milliseconds.
_MAX_CONNECTIONS = 32
# Seconds between two checks for connections that take too long.
_POLL_INTERVAL = 1.0

_METHODS = ("GET", "HEAD")
_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}


def machine_names() -> set[str]:
    """Return this machine's host name according to the kernel, with and without the domain."""
    name = socket.gethostname().lower().removesuffix(".")
    return {name, name.partition(".")[0]} - {""}


def parse_host_name(host: str) -> str:
    """Parse a value of --allow-host; UsageError for a URL.

    A port and a trailing dot are dropped, since the answer does not depend on them.
    """
    name = host.strip().lower()
    head, colon, port = name.rpartition(":")
    if colon and port.isdecimal():
        name = head
    name = name.removesuffix(".")
    if not name or any(sign in name for sign in "/:@[] "):
        shown = repr(host[:80])
        raise UsageError(f"--allow-host: expected a host name such as metrics.example, got {shown}")
    return name


def is_allowed_host(host: str, names: Collection[str]) -> bool:
    """Whether requests with this Host header are answered.

    Any web site can make its own name resolve to 127.0.0.1 (DNS rebinding); a browser on this
    machine would then give our answers to the site's pages. The Host header of such a request
    names the site. So a name is answered only if it is localhost or one of `names`; an IP address
    always is.
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
    """Answers requests in other threads until the program ends, once serve() was called."""

    daemon_threads = True

    def __init__(
        self,
        listening: socket.socket,
        host: str = "",
        names: Iterable[str] = (),
        tls: Tls | None = None,
    ) -> None:
        """Take a socket that listens, and the host name that it was found by.

        Requests are answered for `host`, this machine's own names and `names` (from
        parse_host_name()); see is_allowed_host(). With `tls`, connections are encrypted.
        """
        self.names = {*names, host.lower().removesuffix(".")} - {""} | machine_names()
        self.answers: Mapping[str, Answer] = {}
        self._tls = tls
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        # TCPServer's own method would make a socket.
        socketserver.BaseServer.__init__(self, listening.getsockname(), _Handler)
        self.socket = listening

    @property
    def url(self) -> str:
        """The URL of the server."""
        host, port = self.socket.getsockname()[:2]
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def serve(self, answers: Mapping[str, Answer]) -> None:
        """Start answering requests."""
        self.answers = answers
        threading.Thread(
            target=self.serve_forever, args=(_POLL_INTERVAL,), name="serving", daemon=True
        ).start()

    # ---- methods that socketserver calls

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept the next connection."""
        try:
            connection, address = super().get_request()
            return connection if self._tls is None else self._tls.wrap(connection), address
        except OSError:
            # Without free descriptors the connection stays queued: do not retry in a busy loop.
            time.sleep(0.1)
            raise

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Start a thread for a connection."""
        with self._lock:
            while len(self._open) >= _MAX_CONNECTIONS:
                self._end(next(iter(self._open)))
            self._open[request] = time.monotonic() + _REQUEST_TIMEOUT
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close connections that take too long."""
        now = time.monotonic()
        with self._lock:
            for request in [request for request, deadline in self._open.items() if deadline < now]:
                self._end(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Print a line for an error, unless the client left."""
        import sys

        error = sys.exc_info()[1]
        if isinstance(error, Exception) and not isinstance(error, OSError):
            print_error(f"cannot answer a request: {error!r}")

    def _end(self, request: socket.socket) -> None:
        """Shut the connection down, so that its thread stops waiting for the client."""
        self._open.pop(request, None)
        with contextlib.suppress(OSError):
            # SSLSocket's own method would let its thread go on without encryption.
            socket.socket.shutdown(request, socket.SHUT_RDWR)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    timeout = _REQUEST_TIMEOUT

    def setup(self) -> None:
        """Make the handshake, in this connection's thread."""
        super().setup()
        if hasattr(self.connection, "do_handshake"):
            self.connection.do_handshake()

    def parse_request(self) -> bool:
        """Whether the request can be answered; if not, it has been refused."""
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
        elif (
            hosts
            and "*" not in self.server.names
            and not is_allowed_host(hosts[0], self.server.names)
        ):
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
        # With the standard's phrase: http.server's messages would repeat the client's text.
        super().send_error(code)

    def version_string(self) -> str:
        return "fastsmaps"

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a line for each scrape would fill the log."""
