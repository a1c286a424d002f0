"""Signal handlers that raise at any moment: the caller gets it, and nothing is left behind."""

from __future__ import annotations

import bz2
import contextlib
import gc
import gzip
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fastsmaps
from fastsmaps._capture.writers import target_of
from support import processes
from support.captures import SMAPS, smem, tar
from support.commands import ZOO, environment
from support.interrupts import at_every_line

pytestmark = pytest.mark.thread_unsafe(reason="traces, and sets a handler")


class SoftTimeLimit(Exception):
    """An exception as task queues raise it."""


class Own(OSError):
    """An OSError of the program's own."""


class Other(ValueError):
    """An exception as decoders raise it."""


KINDS = (SoftTimeLimit, Own, TimeoutError, Other, KeyboardInterrupt, SystemExit)
UNPACKING = tuple(
    f"fastsmaps.{name}"
    for name in ("_capture.unpack", "_capture.tar", "_output.temporary", "_output.files",
                 "_source.compressed", "_source.text", "_source.source", "_backend.descriptors")
)  # fmt: skip


@pytest.fixture(autouse=True)
def _ignore_unraisable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore exceptions raised in finalizers, which Python cannot pass on."""
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)


COMPRESS = (bytes, gzip.compress, lzma.compress, bz2.compress)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "compress"),
    [
        *((kind, gzip.compress) for kind in KINDS),
        *((SoftTimeLimit, compress) for compress in COMPRESS),
    ],
)
def test_handler_raises_while_a_capture_is_unpacked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[BaseException],
    compress: Callable[[bytes], bytes],
) -> None:
    path = tmp_path / "a"
    path.write_bytes(compress(tar(path, {"7/smaps": SMAPS}).read_bytes()))
    place = tmp_path / "unpacked"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    caught: list[fastsmaps.Error] = []

    def unpacked() -> None:
        with fastsmaps.open_capture(path, on_error=caught.append) as found:
            assert os.listdir(found) == ["7"]

    tries = 0
    for raised in at_every_line(unpacked, lambda: kind("time is up"), *UNPACKING):
        assert raised in (kind, None)
        tries += raised is kind
        assert os.listdir(place) == []
    assert tries > 100
    assert not caught


def test_handler_raises_while_a_temporary_directory_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own search tries each place with a file, which an exception would leave behind."""
    path = tar(tmp_path / "a.tar", {"7/smaps": SMAPS})
    place = tmp_path / "unpacked"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))

    def unpacked() -> None:
        tempfile.tempdir = None
        with fastsmaps.open_capture(path) as found:
            assert found.startswith(str(place))

    monkeypatch.setattr(tempfile, "tempdir", None)
    modules = ("fastsmaps._output.temporary", "tempfile")
    for _ in at_every_line(unpacked, lambda: SoftTimeLimit("time is up"), *modules):
        assert os.listdir(place) == []


@pytest.mark.parametrize("name", ["writers", "unpack"])
def test_no_descriptor_leaks_when_a_handler_raises(tmp_path: Path, name: str) -> None:
    """A handler raises just after a file is opened, before its descriptor is stored."""
    archive = tar(tmp_path / "a.tar", {"7/smaps": SMAPS})

    def written() -> None:
        with target_of(f"{tmp_path}/out") as target:
            target.file("loadavg", b"x")

    def unpacked() -> None:
        with fastsmaps.open_capture(archive):
            pass

    error, module = (lambda: SoftTimeLimit("time is up")), f"fastsmaps._capture.{name}"
    call = written if name == "writers" else unpacked
    call()
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    gc.collect()  # cycles that earlier tests left
    before = os.listdir("/proc/self/fd")
    tries = 0
    for _ in at_every_line(call, error, module, event_of="opcode"):
        tries += 1
        if os.listdir("/proc/self/fd") != before:
            gc.collect()  # a cycle holds the archive's file
        assert os.listdir("/proc/self/fd") == before
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert tries > 50


@pytest.mark.parametrize(
    "chosen",
    [
        {"TMPDIR": "{}"},
        {"TEMP": "{}"},
        {"TMPDIR": "", "TMP": "{}"},
        {"TMPDIR": "/nothing", "TMP": "{}"},
    ],
    ids=str,
)
def test_environment_chooses_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str]
) -> None:
    path = tar(tmp_path / "a.tar", {"7/smaps": SMAPS})
    monkeypatch.setattr(tempfile, "tempdir", None)
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    with fastsmaps.open_capture(path) as found:
        assert Path(found).parent == tmp_path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compress", COMPRESS)
def test_handler_raises_while_a_text_is_loaded(
    backend: ModuleType,
    tmp_path: Path,
    kind: type[BaseException],
    compress: Callable[[bytes], bytes],
) -> None:
    path = tmp_path / "a"
    path.write_bytes(compress(SMAPS))
    results = list(
        at_every_line(lambda: fastsmaps.load(path), lambda: kind("time is up"), *UNPACKING)
    )
    assert len(results) > 10
    assert set(results) == {kind}


READING = (
    *UNPACKING,
    *(
        f"fastsmaps.{name}"
        for name in ("_source.api", "_source.mappings", "_source.chunks", "_source.process",
                     "_source.process_dir", "_source.process_files", "_arguments",
                     "_source.metadata", "_source.rights", "_host.scan", "_host.sweeper",
                     "_host.rows", "_host.libs", "_host.watch", "_backend._pysweep",
                     "_backend._pysame_memory", "_capture.capture")
    ),
)  # fmt: skip


@pytest.fixture
def no_orphan(tmp_path: Path) -> Iterator[None]:
    yield
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


@pytest.mark.usefixtures("no_orphan")
@pytest.mark.parametrize(
    ("what", "step"),
    [("totals", 2), ("mappings", 1), ("scan", 1), ("libs", 7), ("tar", 11), ("dir", 13)],
)
def test_handler_raises_while_processes_are_read(
    backend: ModuleType, idle: processes.Process, tmp_path: Path, what: str, step: int
) -> None:
    """TimeoutError is an OSError: it must not be taken for a failed read."""
    made = iter(range(1 << 20))

    calls: dict[str, Callable[[], object]] = {
        "totals": lambda: [fastsmaps.totals(idle.pid, procfs=path) for path in ("/proc", "/proc/")],
        "mappings": lambda: [
            fastsmaps.mappings(idle.pid, procfs=path) for path in ("/proc", "/proc/")
        ],
        "scan": lambda: fastsmaps.scan([idle.pid], cgroup=True, timeout=3600),
        "libs": lambda: fastsmaps.libs([idle.pid]),
        "tar": lambda: fastsmaps.capture(tmp_path / f"{next(made)}.tar.gz", [idle.pid]),
        "dir": lambda: fastsmaps.capture(tmp_path / f"{next(made)}", [idle.pid]),
    }
    calls[what]()  # imports
    results = list(
        at_every_line(calls[what], lambda: TimeoutError("time is up"), *READING, step=step)
    )
    assert set(results) == {TimeoutError}
    assert len(results) > 10


def test_alarm_raises_while_a_process_is_read(backend: ModuleType) -> None:
    """A real signal arrives while the backend is reading."""

    def ring(*_: object) -> None:
        raise TimeoutError("time is up")

    found: list[type[Exception] | None] = []
    with processes.workload("many", "20000") as many:
        before = signal.signal(signal.SIGALRM, ring)
        try:
            for call in (fastsmaps.mappings, fastsmaps.totals) * 10:
                deadline = time.monotonic() + processes.TIMEOUT
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-3)
                    while time.monotonic() < deadline:
                        call(many.pid)
                    found.append(None)
                except Exception as error:
                    found.append(type(error))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert found == [TimeoutError] * 20


def test_damaged_capture_is_still_a_capture_error(tmp_path: Path) -> None:
    """Whatever the compression modules raise for damage becomes a CaptureError."""
    for compress in COMPRESS:
        path = tmp_path / "a"
        data = compress(tar(path, smem()).read_bytes())
        for damaged in (data[: len(data) // 2], data[:100] + b"\xff" * 50 + data[150:]):
            path.write_bytes(damaged)
            caught: list[fastsmaps.Error] = []
            with contextlib.suppress(fastsmaps.CaptureError):
                with fastsmaps.open_capture(path, on_error=caught.append):
                    pass
                assert len(caught) == 1
        text = tmp_path / "text"
        text.write_bytes(compress(Path(ZOO).read_bytes())[:-30])
        with pytest.raises(fastsmaps.Error):
            fastsmaps.load(text)


MODEL = [
    f"fastsmaps._model.{name}"
    for name in ("diff", "mapping", "mappings", "process_totals", "record", "samples", "totals")
]

# Each line of the modules that a public name imports raises once.
_INTERRUPTED_IMPORT = """
import sys
import fastsmaps
from support.interrupts import at_every_line

modules = sys.argv[1:]
interrupted = list(at_every_line(lambda: fastsmaps.Watch, lambda: TimeoutError(), *modules))
assert set(interrupted) == {TimeoutError}, set(interrupted)
assert len(interrupted) > 100, len(interrupted)
with fastsmaps.Watch() as watch:
    pass
assert watch.peak.totals == watch.samples[0].totals or len(watch.samples) > 1
"""


def test_handler_raises_while_a_name_is_imported() -> None:
    """The next use of the name imports it again, whole."""
    subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_IMPORT, *READING, *MODEL], check=True,
        env=environment(PYTHONPATH=str(Path(__file__).parents[1])), timeout=processes.TIMEOUT,
    )  # fmt: skip
