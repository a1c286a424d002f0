"""--parquet: the rows of --json in a file, and queries over the files of a fleet."""

from __future__ import annotations

import datetime
import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pandas
import polars
import pyarrow as pa
import pytest
from pyarrow import parquet

import fastsmaps
from fastsmaps._output.stored import schema_of
from fastsmaps._source.source import Source
from fastsmaps.parquet import write_parquet
from support import commands, processes
from support.captures import no_leftovers
from support.independent import DATA
from support.smaps_texts import header, kb, record

ROOT = Path(__file__).parents[2]
OLD = str(DATA / "captures/5.10-amd64/zoo/smaps")
HOSTILE = b"/tmp/\xff\x1b[31m'; DROP TABLE x; --"
NOTED = {"format": 1, "host": "host-7", "taken_at": 1700000000.25, "processes": {}}


@pytest.fixture
def host(tmp_path: Path) -> str:
    """Write a capture of three processes, one with a hostile name."""
    root = tmp_path / "host-7"
    zoo = Path(commands.ZOO).parent
    for pid, comm in ((7, b"zoo"), (8, b"a\xff\x1b[2J"), (9, b"zoo")):
        (root / str(pid)).mkdir(parents=True)
        for name in ("maps", "smaps", "smaps_rollup", "status"):
            shutil.copy(zoo / name, root / str(pid) / name)
        text = b"%d (%s) S 1 " % (pid, comm) + b"0 " * 40
        (root / str(pid) / "stat").write_bytes(text)
        (root / str(pid) / "cmdline").write_bytes(b"%s\0--pid\0%d\0" % (comm, pid))
    with (root / "8" / "smaps").open("ab") as file:
        file.write(record(2**47, 2**47 + 4096, HOSTILE, Rss=4, Pss=4, Private_Dirty=4))
    (root / "10").mkdir()
    (root / "10" / "stat").write_bytes(b"10 (dead) Z 1 " + b"0 " * 40)
    (root / "fastsmaps.json").write_text(json.dumps(NOTED))
    return str(root)


def readable(value: Any) -> Any:
    """Escape a value as Parquet needs it: texts are UTF-8."""
    if isinstance(value, str):
        return os.fsencode(value).decode("utf-8", "backslashreplace")
    if isinstance(value, list):
        return [readable(item) for item in value]
    if isinstance(value, dict):
        return [(label, readable(text)) for label, text in value.items()]
    return value


def table_of(tmp_path: Path, *arguments: str, status: int = 0) -> Any:
    """Run the command and read the table it writes; it prints nothing on success."""
    path = tmp_path / "out.parquet"
    done = commands.run(*arguments, "--parquet", str(path), status=status)
    assert done.stdout == ""
    *errors, wrote = done.stderr.splitlines()
    assert bool(errors) == (status != 0)
    assert wrote.startswith("Wrote ")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    table = parquet.read_table(path)
    table.validate(full=True)
    return table


# ---- the rows


@pytest.mark.parametrize(
    "arguments",
    [
        ("ps",),
        ("ps", "--filter", "zoo", "--sort=-pid"),
        ("ps", "--limit", "2", "--sort", "comm"),
        ("ps", "--by", "comm"),
        ("ps", "--by", "user"),
        ("maps", "7"),
        ("maps", "8", "--sort", "path", "--filter", "/"),
        ("maps", "8", "--fields", "rss,Pss,vm_flags"),
        ("maps", "8", "--by", "path"),
        ("maps", "8", "--by", "kind", "--fields", "swap"),
        ("libs",),
        ("libs", "--limit", "1", "--sort", "processes"),
    ],
    ids=" ".join,
)
def test_rows_are_those_of_json(
    backend: ModuleType, host: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    rows = commands.json_rows(*arguments, "--procfs", host)
    table = table_of(tmp_path, *arguments, "--procfs", host)
    written = table.to_pylist()
    assert len(written) == len(rows) > 0
    taken_at = datetime.datetime.fromtimestamp(1700000000.25, datetime.UTC)
    for row, given in zip(written, rows, strict=True):
        assert (row.pop("host"), row.pop("taken_at")) == ("host-7", taken_at)
        if arguments[0] == "maps":
            assert row.pop("pid") == int(arguments[1])
        assert {name: row.pop(name) for name in given} == {
            name: readable(value) for name, value in given.items()
        }
        # Other kernels print fields that this one does not.
        assert set(row.values()) <= {None}


def test_column_types_depend_on_the_name_only(
    backend: ModuleType, host: str, tmp_path: Path
) -> None:
    types = {
        "host": pa.dictionary(pa.int32(), pa.string()),
        **dict.fromkeys(("comm", "user", "cgroup", "outcome", "error"), pa.string()),
        **dict.fromkeys(("path", "perms", "dev", "kind"), pa.string()),
        **dict.fromkeys(("unit", "slice", "container", "pod", "use", "exe", "group"), pa.string()),
        **dict.fromkeys(("start", "end"), pa.uint64()),
        **dict.fromkeys(("age", "pss_percent"), pa.float64()),
        "estimated": pa.bool_(),
        "raw_path": pa.binary(),
        "extra_fields": pa.map_(pa.string(), pa.int64()),
        **dict.fromkeys(("cmdline", "vm_flags"), pa.list_(pa.string())),
        "taken_at": pa.timestamp("us", tz="UTC"),
        "start_time": pa.float64(),
        "deleted": pa.bool_(),
        "extra": pa.map_(pa.string(), pa.string()),
    }
    seen = set()
    for arguments in (("ps", "--filter", "."), ("ps", "--by", "user"), ("maps", "8"), ("libs",)):
        # Neither missing rows nor missing values change a type.
        for more in ((), ("--limit", "0")):
            schema = table_of(tmp_path, *arguments, *more, "--procfs", host).schema
            for name, kind in zip(schema.names, schema.types, strict=True):
                if name == "cmdline" and "--by" in arguments:
                    assert kind == pa.string()
                    continue
                assert kind.equals(types.get(name, pa.int64())), name
                seen.add(name)
    assert {*types} == seen & {*types}
    # Kernels print different fields: every field that a kernel has had is a column.
    old, new = (table_of(tmp_path, "maps", text).column_names for text in (OLD, commands.ZOO))
    words = ("maps", commands.ZOO, "--filter", "no such thing")
    none = table_of(tmp_path, *words, status=1).column_names
    assert {*old} == {*new} == {*none}
    assert {"pss_dirty", "ksm", "nonlinear", "protection_key"} <= {*old}


def test_host_and_time_are_null_for_a_file(backend: ModuleType, tmp_path: Path) -> None:
    table = table_of(tmp_path, "maps", commands.ZOO)
    assert len(table) == len(fastsmaps.load(commands.ZOO))
    assert [table[name].null_count for name in ("host", "taken_at", "pid")] == [len(table)] * 3


def test_live_processes_have_host_and_time(backend: ModuleType, tmp_path: Path) -> None:
    with processes.workload("idle") as child:
        for arguments in (("ps",), ("maps", str(child.pid)), ("libs", str(child.pid))):
            before = datetime.datetime.now(datetime.UTC)
            table = table_of(tmp_path, *arguments)
            after = datetime.datetime.now(datetime.UTC)
            assert {*table["host"].to_pylist()} == {os.uname().nodename}
            (taken_at,) = {*table["taken_at"].to_pylist()}
            assert before <= taken_at <= after
            if "pid" in table.column_names:
                assert child.pid in table["pid"].to_pylist()


def test_label_named_like_a_column(backend: ModuleType, host: str, tmp_path: Path) -> None:
    labels = ("Host", "Pid", "Comm", "User", "Processes", "Mappings", "Path", "Kind", "Taken_At")
    more = b"".join(map(kb, labels, range(1, 10)))
    for pid in (7, 8, 9):
        for name in ("smaps", "smaps_rollup"):
            path = Path(host) / str(pid) / name
            text = header(0x1000, 0x2000, b"/a" if name == "smaps" else b"[rollup]") + more
            path.write_bytes(text + kb("Pss", 4))

    def rows(*arguments: str) -> list[dict[str, Any]]:
        return list(table_of(tmp_path, *arguments, "--procfs", host).to_pylist())

    def numbers(row: dict[str, Any]) -> dict[str, int]:
        return dict(row["extra_fields"])

    for arguments, names in (
        (("ps",), ("host", "pid", "comm", "user")),
        (("maps", "7"), ("host", "pid", "path", "kind")),
        (("maps", "7", "--by", "kind"), ("host", "pid", "kind", "mappings")),
    ):
        for row in rows(*arguments):
            assert {row[name] for name in names}.isdisjoint(1024 * i for i in range(1, 10))
            assert dict(row["extra_fields"] or ()).keys() <= {*labels}
    # They keep names of their own: no value is lost or replaced by another.
    (lib,) = rows("libs")
    assert (lib["path"], lib["processes"]) == ("/a", 3)
    assert (numbers(lib)["Processes"], numbers(lib)["Path"]) == (15360, 21504)
    first, second, unread = rows("ps", "--by", "comm", "--sort", "processes")
    assert (unread["processes"], unread["unread"], unread["pss"]) == (0, 1, None)
    assert (first["processes"], second["processes"], numbers(first)["Processes"]) == (
        *(2, 1),
        10240,
    )
    assert [numbers(row)["Comm"] for row in rows("ps") if row["outcome"] == "read"] == [3072] * 3


# ---- one schema

_OPTIONS = {
    "processes": [
        "", "--filter .", "--cgroup", "--tree", "--fields rss", "--fields exe,mem%,mappings",
        "--fields cmdline,cgroup --sort comm", "--limit 0", "--min-rss 1T", "-u nobody",
    ],
    "process_groups": [
        "--by comm", "--by user,pid", "--by cgroup,unit,container,exe", "--by cmdline --limit 0",
        "--by group:a=zoo", "--by cmdline:(?P<a>.) --fields pss",
    ],
    "mappings": ["", "--fields use", "--limit 0", "--filter nothing"],
    "mapping_groups": ["--by path", "--by kind --fields rss", "--by label", "--by use --limit 0"],
    "files": ["", "--by path", "--fields rss --by file", "--limit 0", "--filter nothing"],
}  # fmt: skip
_COMMANDS = {
    **dict.fromkeys(("processes", "process_groups"), "ps"),
    **dict.fromkeys(("mappings", "mapping_groups"), "maps"),
    "files": "libs",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", _OPTIONS)
def test_one_schema_for_every_option_and_kernel(kind: str, host: str, tmp_path: Path) -> None:
    """Fields of another kernel, a name of two columns, values beyond 63 bits."""
    other = tmp_path / "newer"
    more = kb("NewField", 12) + kb("Pod", 3) + b"Locked:          9007199254740993 kB\n"
    for pid in (7, 8):
        (other / str(pid)).mkdir(parents=True)
        shutil.copy(Path(host) / str(pid) / "stat", other / str(pid) / "stat")
        for name in ("smaps", "smaps_rollup"):
            text = header(0x1000, 0x2000, b"/a" if name == "smaps" else b"[rollup]")
            (other / str(pid) / name).write_bytes(text + kb("Pss", 4) + more)
    schemas, path = [], tmp_path / "out.parquet"
    for root in (host, str(other)):
        for options in _OPTIONS[kind]:
            words = [_COMMANDS[kind], "7"]
            words += [*options.split(), "--procfs", root, "--parquet", str(path)]
            commands.run(*words, status=int("nothing" in options or "-u" in options))
            schemas.append(parquet.read_schema(path))
    assert all(schema.equals(schemas[0], check_metadata=True) for schema in schemas)
    assert {schema.metadata[b"fastsmaps.schema"] for schema in schemas} == {f"{kind} 1".encode()}
    unsigned = {field.name for field in schemas[0] if pa.types.is_unsigned_integer(field.type)}
    assert unsigned == ({"start", "end"} if kind == "mappings" else set())
    row = table_of(tmp_path, *words[:2], "--procfs", str(other)).to_pylist()[0]
    assert (row["pss"], row["locked"]) == (4096, None)
    assert dict(row["extra_fields"]) == {"new_field": 12288, "Pod": 3072}


def test_tables_in_memory_are_stored_with_the_same_schema(host: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    mappings = fastsmaps.load(commands.ZOO)
    scan = fastsmaps.scan(procfs=host)
    for table, kind in ((mappings, "mappings"), (scan, "processes"), (scan[:0], "processes")):
        for given in (table, table.to_arrow(), pa.table(table)):
            write_parquet(given, path)
            assert parquet.read_schema(path).equals(schema_of(kind))
            assert b"fastsmaps.procfs" in (parquet.read_schema(path).metadata) or table is mappings
        rows = table.to_arrow().to_pylist()
        for row, expected in zip(parquet.read_table(path).to_pylist(), rows, strict=True):
            assert expected.items() <= row.items()
    # Columns that a user added stay, as does any other table.
    write_parquet(scan.to_arrow().append_column("mine", pa.array(["x"] * len(scan))), path)
    assert parquet.read_table(path)["mine"].to_pylist() == ["x"] * len(scan)
    beyond = pa.table(
        {"start": pa.array([2**64 - 4096], pa.uint64()), "rss": pa.array([2**63], pa.uint64())}
    )
    write_parquet(beyond, path)
    assert parquet.read_table(path).to_pylist() == [{"start": 2**64 - 4096, "rss": None}]


def test_one_layout_of_directories_for_all_engines(host: str, tmp_path: Path) -> None:
    root = tmp_path / "fleet"
    for name in ("a", "b.example"):
        (root / f"host={name}").mkdir(parents=True)
        more = ["--filter", "."] if name == "a" else ["--cgroup"]
        file = str(root / f"host={name}" / "ps.parquet")
        commands.run("ps", *more, "--procfs", host, "--parquet", file)
    both = {"a", "b.example"}
    frame = pandas.read_parquet(root)
    assert ({*frame["host"]}, len(frame), frame["pss"].dtype.kind) == (both, 8, "f")
    assert {*parquet.read_table(root)["host"].to_pylist()} == both
    assert {*polars.scan_parquet(root).collect()["host"]} == both
    query = f"SELECT DISTINCT host FROM '{root}/**/*.parquet'"
    answer: Any = duckdb.sql(query)
    assert {name for (name,) in answer.fetchall()} == both


@pytest.mark.parametrize("names", [("007", "123"), ("a", "b.example")])
def test_directories_of_any_hosts_with_a_later_schema(
    names: tuple[str, str], host: str, tmp_path: Path
) -> None:
    """docs/arrow.md: names that look like numbers stay texts; an older file lacks a column."""
    root = tmp_path / "fleet"
    for name in names:
        place = root / "date=2026-11-28" / f"host={name}"
        place.mkdir(parents=True)
        commands.run("ps", "--procfs", host, "--parquet", f"{place}/ps.parquet")
    newest = place / "ps.parquet"
    table = parquet.ParquetFile(newest).read()
    parquet.write_table(table.append_column("later", pa.array([1] * 4, pa.int64())), newest)

    schema = parquet.read_schema(newest)
    text = pa.field("host", pa.string())
    schema = schema.set(schema.get_field_index("host"), text).append(pa.field("date", pa.string()))
    frame = pandas.read_parquet(root, schema=schema)
    found = frame.groupby(["host", "date"])["later"].agg(["size", "count"])
    expected = {(names[0], "2026-11-28"): (4, 0), (names[1], "2026-11-28"): (4, 4)}
    assert {
        key: (*row,) for key, row in zip(found.index, found.to_numpy(), strict=True)
    } == expected
    assert {*parquet.read_table(root, schema=schema)["host"].to_pylist()} == {*names}
    scanned = polars.scan_parquet(
        f"{root}/**/*.parquet", hive_partitioning=True, extra_columns="ignore"
    ).filter(polars.col("date") == datetime.date(2026, 11, 28))
    assert {*scanned.collect()["host"]} == {*names}
    query = (
        f"SELECT host, count(later) FROM read_parquet('{root}/**/*.parquet',"
        " hive_types = {'host': VARCHAR}, union_by_name = true) GROUP BY host ORDER BY host"
    )
    answer: Any = duckdb.sql(query)
    assert answer.fetchall() == [(names[0], 0), (names[1], 4)]


def test_cgroup_parts_are_columns(host: str, tmp_path: Path) -> None:
    digits = "0123456789abcdef" * 4
    path = f"/system.slice/docker-{digits}.scope"
    (Path(host) / "7" / "cgroup").write_text(f"0::{path}\n")
    rows = {
        row["pid"]: row
        for row in table_of(tmp_path, "ps", "--cgroup", "--procfs", host).to_pylist()
    }
    row = rows[7]
    assert (row["cgroup"], row["slice"], row["pod"]) == (path, "system.slice", "")
    assert row["container"].startswith("docker:0123456789ab")
    assert rows[8]["container"] is None  # its cgroup is not in the capture


# ---- the file


def test_writing_is_atomic(tmp_path: Path) -> None:
    directory = tmp_path / "files"
    directory.mkdir()
    path = directory / "a.parquet"
    table = pa.table({"a": pa.array(range(100_000))})
    path.write_bytes(b"what was there")

    def fail() -> str:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            write_parquet(table, path)
        except OSError as error:
            return str(error.strerror)
        return "written"

    assert processes.run_in_child(fail) == "File too large"
    assert os.listdir(directory) == ["a.parquet"]
    assert path.read_bytes() == b"what was there"
    write_parquet(table, path)
    assert os.listdir(directory) == ["a.parquet"]
    assert parquet.read_table(path).equals(table)
    write_parquet(table, os.fsencode(path))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="No such file"):
        write_parquet(table, directory / "none" / "a.parquet")


def test_irregular_targets_are_refused(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"somebody else's")
    link = tmp_path / "link.parquet"
    link.symlink_to(kept)
    for path, problem in (
        (str(link), "not a regular file"),
        (str(tmp_path), "not a regular file"),
        (str(tmp_path / "none" / "a.parquet"), "No such file or directory"),
        ("/dev/null", "not a regular file"),
    ):
        # Reported before anything is read, which may take long: not that nothing was found.
        nothing = str(tmp_path / "nothing")
        done = commands.run("ps", "--procfs", nothing, "--parquet", path, status=1)
        assert done.stderr.startswith(f"fastsmaps: cannot write {path}: ")
        assert done.stderr.endswith(f"{problem}\n")
        assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert (link.is_symlink(), kept.read_bytes()) == (True, b"somebody else's")


def test_full_disk_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    done = subprocess.run(
        ["sh", "-c", 'trap "" XFSZ; ulimit -f 1; exec "$@"', "sh"]
        + [*commands.COMMAND, "maps", commands.ZOO, "--parquet", str(path)],
        env=commands.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        1,
        f"fastsmaps: cannot write {path}: File too large\n",
    )
    assert os.listdir(tmp_path) == []


def test_wrong_use_is_status_2(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    done = commands.run("ps", "--json", "--parquet", path, status=2)
    assert "not allowed with" in done.stderr
    for command in ("totals", "diff", "capture"):
        commands.run(command, "self", "--parquet", path, status=2)
    assert not os.path.exists(path)


def test_unreadable_target_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    done = commands.run("maps", str(processes.dead_pid()), "--parquet", str(path), status=1)
    assert done.stderr.startswith("fastsmaps: there is no process")
    assert not path.exists()


def test_missing_pyarrow_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\nfrom fastsmaps.cli.main import entry\nentry()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "ps", "--parquet", str(tmp_path / "a.parquet")],
        env=commands.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert 'pip install "pyarrow>=14"' in done.stderr
    assert os.listdir(tmp_path) == []


# ---- the origin of a file


def test_origin_of_procfs_and_captures(host: str, tmp_path: Path) -> None:
    assert Source("/proc").origin(5.0) == (os.uname().nodename, 5.0)
    assert Source(host).origin(5.0) == ("host-7", 1700000000.25)
    assert Source(tmp_path).origin(5.0) == (None, None)
    notes = Path(host) / "fastsmaps.json"
    for text in (
        "",
        "[]",
        "7",
        "{}",
        '{"host": 7, "taken_at": "now"}',
        '{"taken_at": true}',
        "[" * 9,
    ):
        notes.write_text(text)
        assert Source(host).origin(5.0) == (None, None), text
    for time in ("-1", "1e300", "NaN", "Infinity", "9" * 400):
        notes.write_text(f'{{"host": "{"h" * 256}", "taken_at": {time}}}')
        assert Source(host).origin(5.0) == (None, None), time
    notes.write_text('{"host": "h\\ud800", "taken_at": 253402300799}')
    assert Source(host).origin(5.0) == ("h\ud800", 253402300799)
    row, *_ = table_of(tmp_path, "ps", "--procfs", host).to_pylist()
    assert (row["host"], row["taken_at"].year) == ("h\\ud800", 9999)


def test_capture_of_a_capture_keeps_its_host(
    backend: ModuleType, host: str, tmp_path: Path
) -> None:
    without_notes = tmp_path / "bare"
    shutil.copytree(Path(host) / "7", without_notes / "7")
    for procfs, expected in ((host, NOTED), (str(without_notes), {})):
        target = tmp_path / f"copy{len(expected)}"
        fastsmaps.capture(target, procfs=procfs)
        notes = json.loads((target / "fastsmaps.json").read_text())
        assert notes["host"] == expected.get("host")
        assert notes["taken_at"] == expected.get("taken_at")


# ---- a fleet


def test_query_over_many_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = re.search(r"^```sql\n(.*?)^```$", (ROOT / "docs/arrow.md").read_text(), re.S | re.M)
    assert query is not None
    (tmp_path / "fleet").mkdir()
    (tmp_path / "unpacked").mkdir()
    expected: dict[tuple[str, str], list[int]] = {}
    with processes.workload("idle") as child, processes.workload("idle") as other:
        for host, pids in (
            ("web1", [child.pid]),
            ("web2", [child.pid, other.pid]),
            ("db", [other.pid]),
        ):
            saved = tmp_path / f"{host}.tar.gz"
            scan = fastsmaps.capture(tmp_path / host, [*pids, os.getpid()])
            # As if it came from that host: its name in the notes.
            notes = tmp_path / host / "fastsmaps.json"
            notes.write_text(json.dumps({**json.loads(notes.read_text()), "host": host}))
            subprocess.run(["tar", "-czf", saved, "-C", tmp_path, host], check=True)
            for row in scan:
                assert row.comm is not None
                assert row.totals is not None
                entry = expected.setdefault((host, row.comm), [0, 0])
                entry[0] += 1
                entry[1] += row.totals.pss or 0
            with no_leftovers(tmp_path / "unpacked"):
                file = str(tmp_path / "fleet" / f"{host}.parquet")
                commands.run("ps", "--procfs", str(saved), "--parquet", file)
    monkeypatch.chdir(tmp_path)
    answer: Any = duckdb.sql(query[1])
    assert answer.columns[:2] == ["host", "comm"]
    found = {(host, comm): [count, int(pss)] for host, comm, count, pss, *_ in answer.fetchall()}
    assert found == expected
    assert len({host for host, _ in found}) == 3
