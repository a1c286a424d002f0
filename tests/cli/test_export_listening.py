"""fastsmaps export: TLS, client certificates, sockets from systemd."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from fastsmaps.cli import http_server
from support import processes
from support.commands import COMMAND, environment, run
from support.metrics import Exporter, until


class Authority:
    """A certificate authority, and what it has signed, as PEM files in a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        if shutil.which("openssl") is None or _openssl_version() < b"OpenSSL 3":
            pytest.skip("no OpenSSL 3, which makes the certificates")
        directory.mkdir()
        self.directory, self.name = directory, name
        # Python 3.13 and newer insist on the key's usage.
        self.certificate = self._make(
            "ca", f"/CN={name}", "-x509", "-addext", "keyUsage=critical,keyCertSign,cRLSign"
        )
        self.key = directory / "ca.key"

    def sign(self, name: str) -> tuple[Path, Path]:
        """Return a certificate for 127.0.0.1 and its key."""
        signed = ("-x509", "-CA", str(self.certificate), "-CAkey", str(self.key),
                  "-addext", "subjectAltName=IP:127.0.0.1",
                  "-addext", "basicConstraints=critical,CA:FALSE")  # fmt: skip
        return self._make(name, f"/CN={name}", *signed), self.directory / f"{name}.key"

    def _make(self, file: str, subject: str, *arguments: str) -> Path:
        path = self.directory / f"{file}.pem"
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", str(path.with_suffix(".key")), "-out", str(path), "-subj", subject,
                "-days", "2", *arguments)  # fmt: skip
        return path

    def client(self, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Return a client's context that trusts this authority, and shows a certificate."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return context


def _openssl_version() -> bytes:
    return subprocess.run(["openssl", "version"], capture_output=True, check=False).stdout


def openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours", "ours")


def files(certificate: tuple[Path, Path]) -> tuple[str, ...]:
    return ("--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1]))


def test_metrics_over_tls(backend: ModuleType, authority: Authority) -> None:
    pair = authority.sign("server")
    with Exporter(*files(pair), tls=authority.client()) as exporter:
        assert exporter.url.startswith("https://127.0.0.1:")
        assert exporter.scrape().up
        assert exporter.request("/-/healthy")[0].status == 200
        assert exporter.request(Host="evil.example")[0].status == 421
        with pytest.raises(ssl.SSLCertVerificationError):  # the server has its own certificate
            Exporter.request(_with(exporter, ssl.create_default_context()))
        with socket.create_connection((exporter.host, exporter.port), processes.TIMEOUT) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert b"fastsmaps" not in client.recv(1 << 16)
        old = authority.client()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _with(exporter, old).request()
        assert exporter.scrape().up


def _with(exporter: Exporter, tls: ssl.SSLContext) -> Exporter:
    """Return the same exporter as another client sees it."""
    other = Exporter.__new__(Exporter)
    other.__dict__.update(exporter.__dict__, tls=tls)
    return other


def test_one_file_may_have_certificate_and_key(
    backend: ModuleType, authority: Authority, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(file.read_bytes() for file in authority.sign("server")))
    with Exporter("--tls-cert", str(both), tls=authority.client()) as exporter:
        assert exporter.scrape().up


def test_only_clients_with_a_certificate_are_answered(
    backend: ModuleType, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", "other")
    arguments = (*files(authority.sign("server")), "--tls-client-ca", str(authority.certificate))
    with Exporter(*arguments, tls=authority.client(authority.sign("client"))) as exporter:
        assert exporter.scrape().up
        for refused in (None, other.sign("client")):
            for path in ("/metrics", "/", "/-/healthy"):
                # With TLS 1.3 a client learns that it was refused when it reads.
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    _with(exporter, authority.client(refused)).request(path)
        assert exporter.scrape().up


def test_replaced_certificates_are_read_again(
    backend: ModuleType, authority: Authority, tmp_path: Path
) -> None:
    """The next connection gets the new ones; if they are unusable, the last ones."""
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"

    def replace(name: str) -> None:
        for new, file in zip(authority.sign(name), (certificate, key), strict=True):
            shutil.copy(new, file.with_suffix(".new"))
            file.with_suffix(".new").rename(file)

    def shown(exporter: Exporter) -> str:
        address = (exporter.host, exporter.port)
        with (
            socket.create_connection(address, processes.TIMEOUT) as client,
            authority.client().wrap_socket(client, server_hostname=exporter.host) as connection,
        ):
            subject = connection.getpeercert()
            assert subject is not None
            return dict(pair[0] for pair in subject["subject"])["commonName"]  # type: ignore[misc, unused-ignore]

    replace("first")
    with Exporter(*files((certificate, key)), tls=authority.client()) as exporter:
        assert exporter.scrape().up
        assert shown(exporter) == "first"
        replace("second")
        assert shown(exporter) == "second"
        key.unlink()
        assert shown(exporter) == "second"
        certificate.write_text("no certificate")
        assert shown(exporter) == "second"
        replace("third")
        assert shown(exporter) == "third"
        status, error = exporter.end()
        assert status == 0
        lines = [line for line in error.decode().splitlines() if "TLS" in line]
        assert len(lines) == 2
        assert all(line.endswith("; the previous files stay in use") for line in lines)


def test_unusable_files_are_errors(
    backend: ModuleType, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = map(str, authority.sign("server"))
    other = str(authority.sign("another")[1])
    locked = str(tmp_path / "locked.key")
    openssl("pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:secret")
    nothing = str(tmp_path / "nothing.pem")
    for arguments, status, text in (
        (("--tls-cert", nothing), 1, "No such file"),
        (("--tls-cert", certificate), 1, "for TLS"),
        (("--tls-cert", certificate, "--tls-key", other), 1, "for TLS"),
        (("--tls-cert", certificate, "--tls-key", locked), 1, "the key is encrypted"),
        (("--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", key), 1, "for TLS"),
        (("--tls-key", key), 2, "--tls-key needs --tls-cert"),
        (("--tls-client-ca", certificate), 2, "--tls-client-ca needs --tls-cert"),
    ):
        done = run("export", "--listen", "127.0.0.1:0", *arguments, status=status)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert text in done.stderr


def test_silent_clients_do_not_block_handshakes(backend: ModuleType, authority: Authority) -> None:
    """Clients that never begin or end their handshake wait in threads of their own."""
    arguments = files(authority.sign("server"))
    with (
        Exporter(*arguments, tls=authority.client()) as exporter,
        contextlib.ExitStack() as stack,
    ):
        for i in range(2 * http_server._MAX_CONNECTIONS):
            client = socket.create_connection((exporter.host, exporter.port), processes.TIMEOUT)
            stack.enter_context(client)
            client.sendall(b"\x16\x03\x01" if i % 2 else b"")
        assert exporter.scrape().up
        status = Path(f"/proc/{exporter.popen.pid}/status").read_text()
        threads = int(status.partition("Threads:")[2].split()[0])
        assert threads <= http_server._MAX_CONNECTIONS + 8


def test_slow_handshakes_are_ended(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastsmaps.cli.listening import listen
    from fastsmaps.cli.tls import Tls

    monkeypatch.setattr(http_server, "_REQUEST_TIMEOUT", 0.2)
    monkeypatch.setattr(http_server, "_POLL_INTERVAL", 0.01)
    tls = Tls(*map(str, authority.sign("server")))
    before = threading.active_count()
    with http_server.Server(listen("127.0.0.1", 0), tls=tls) as server:
        server.serve({"/": lambda _: (200, b"x" * (64 << 20), {})})
        address = server.socket.getsockname()
        with socket.create_connection(address, processes.TIMEOUT) as client:
            client.sendall(b"\x16\x03\x01")
            with contextlib.suppress(ConnectionError):
                while client.recv(1 << 10):
                    pass
        with (
            socket.create_connection(address, processes.TIMEOUT) as client,
            authority.client().wrap_socket(client, server_hostname="127.0.0.1") as reader,
        ):
            reader.sendall(b"GET / HTTP/1.1\r\n\r\n")
            until(lambda: not server._open)
        server.shutdown()
        until(lambda: threading.active_count() <= before)


# ---- sockets from systemd

# As systemd does it: the socket is descriptor 3 of the program.
_LAUNCHER = """\
import os, socket, sys
kind, count, pid = sys.argv[1:4]
if kind == "tcp":
    passed = socket.create_server(("127.0.0.1", 0))
elif kind == "unix":
    passed = socket.socket(socket.AF_UNIX)
    passed.bind("")
    passed.listen()
elif kind == "file":
    passed = open(os.devnull)
else:
    passed = socket.socket()
if passed.fileno() != 3:
    os.dup2(passed.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS=count, LISTEN_PID=pid or str(os.getpid()), LISTEN_FDNAMES="it")
os.execv(sys.argv[4], sys.argv[4:])
"""


def launched(kind: str, count: str = "1", pid: str = "") -> list[str]:
    return [sys.executable, "-c", _LAUNCHER, kind, count, pid, *COMMAND]


def test_socket_from_systemd_is_used(backend: ModuleType) -> None:
    with Exporter(listen=None, command=launched("tcp")) as exporter:
        assert exporter.host == "127.0.0.1"
        assert exporter.port != 19779
        assert exporter.scrape().up
        environment = Path(f"/proc/{exporter.popen.pid}/environ").read_bytes()
        assert b"LISTEN_FDS=1" in environment
        assert exporter.end()[0] == 0


def test_socket_of_another_process_is_not_used(backend: ModuleType) -> None:
    """A child inherits the variables, but the socket is not for it."""
    with Exporter(command=launched("tcp", pid="1")) as exporter:
        assert exporter.scrape().up


@pytest.mark.parametrize(
    ("kind", "count", "arguments", "text"),
    [
        ("tcp", "2", (), "expected one socket from systemd (LISTEN_FDS), got 2"),
        ("tcp", "1", ("--listen", "127.0.0.1:0"), "--listen: systemd has passed a socket"),
        ("unix", "1", (), "does not listen on TCP"),
        ("closed", "1", (), "does not listen on TCP"),
        ("file", "1", (), "is not a socket"),
    ],
)
def test_unusable_socket_is_an_error(
    backend: ModuleType, kind: str, count: str, arguments: tuple[str, ...], text: str
) -> None:
    command = [*launched(kind, count), "export", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert text in done.stderr
