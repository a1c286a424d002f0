"""fastsmaps ps: text, JSON, CSV, groups, limits, permissions."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from pathlib import Path
from types import ModuleType

import pytest
from pyarrow import parquet

import fastsmaps
from fastsmaps._output.display import escaped
from fastsmaps._output.stored import schema_of
from support import linux, processes
from support.commands import csv_rows, heads, json_rows, on_terminal, run
from support.metrics import small_host


def test_ps_output(backend: ModuleType, idle: processes.Process) -> None:
    rows = {row["pid"]: row for row in json_rows("ps")}
    own = rows[idle.pid]
    assert {"pid", "ppid", "comm", "user", "uid", "outcome", "rss", "pss", "uss", "swap"} <= set(
        own
    )
    assert (own["ppid"], own["outcome"]) == (os.getpid(), "read")
    for row in rows.values():
        assert (row["outcome"] == "read") == (row["rss"] is not None)
    lines = {line["pid"]: line for line in csv_rows("ps")}
    assert lines[str(idle.pid)]["rss"] == str(own["rss"])
    text = run("ps", "--filter", "workloads").stdout.splitlines()
    assert heads(text[0]) == [
        "PID",
        "USER",
        "PSS KiB",
        "USS KiB",
        "RSS KiB",
        "SWAP KiB",
        "MEM%",
        "COMMAND",
    ]
    assert any(line.split()[0] == str(idle.pid) for line in text)
    assert any(re.fullmatch(r"\d+ of \d+ processes read.*", line) for line in text[-2:])
    assert len(json_rows("ps", "--limit", "1")) == 1
    rss = [row["rss"] for row in json_rows("ps", "--sort", "rss") if row["rss"] is not None]
    assert rss == sorted(rss, reverse=True)
    pids = [row["pid"] for row in json_rows("ps", "--sort", "pid")]
    assert pids == sorted(pids)
    assert "MiB" in run("ps", "--human").stdout


def test_filter_adds_command_lines(backend: ModuleType, idle: processes.Process) -> None:
    """JSON and CSV include command lines where --filter reads them."""
    rows = {row["pid"]: row for row in json_rows("ps", "--filter", "workloads.py")}
    expected = Path(f"/proc/{idle.pid}/cmdline").read_text().split("\0")[:-1]
    assert rows[idle.pid]["cmdline"] == expected
    lines = {line["pid"]: line for line in csv_rows("ps", "--filter", "workloads.py")}
    assert lines[str(idle.pid)]["cmdline"] == " ".join(expected)
    assert not any("cmdline" in row for row in json_rows("ps"))


def test_ps_by_groups(backend: ModuleType, idle: processes.Process) -> None:
    for by in ("comm", "user", "cgroup"):
        rows = json_rows("ps", "--by", by)
        assert all({by, "processes", "pss"} <= set(row) for row in rows)
        assert sum(row["processes"] for row in rows) > 1
    assert "total" in run("ps", "--by", "user").stdout
    with processes.workload("idle") as child:
        child.request("name", "")
        assert "(no name)" in run("ps", "--by", "comm").stdout
        assert "" in [row["comm"] for row in json_rows("ps", "--by", "comm")]


def test_zombies_are_counted(backend: ModuleType) -> None:
    with processes.zombie():
        assert " zombie" in run("ps").stdout


def test_cgroup_option_reads_cgroups(
    backend: ModuleType, idle: processes.Process, tmp_path: Path
) -> None:
    """Cgroups are read only on request."""
    (own,) = fastsmaps.scan([idle.pid], cgroup=True)
    assert own.cgroup is not None
    rows = {row["pid"]: row for row in json_rows("ps", "--cgroup")}
    assert rows[idle.pid]["cgroup"] == own.cgroup
    assert {row["cgroup"] for row in json_rows("ps")} == {None}
    run("ps", "--cgroup", "--parquet", f"{tmp_path}/a")
    table = parquet.read_table(tmp_path / "a").to_pylist()
    assert own.cgroup in {row["cgroup"] for row in table if row["pid"] == idle.pid}
    head, *lines = run("ps", "--cgroup", "--filter", "workloads").stdout.splitlines()
    assert head.split()[-2:] == ["CGROUP", "COMMAND"]
    assert any(escaped(own.cgroup) in line for line in lines)


def test_ps_max_rss(backend: ModuleType, idle: processes.Process) -> None:
    rows = {row["pid"]: row for row in json_rows("ps", "--max-rss", "1K")}
    assert rows[idle.pid]["outcome"] == "skipped"
    assert rows[idle.pid]["rss"] is None
    assert "skipped" in run("ps", "--max-rss", "1K").stdout
    rows = {row["pid"]: row for row in json_rows("ps", "--min-rss", "900G")}
    assert rows[idle.pid]["outcome"] == "skipped"
    assert {row["outcome"] for row in json_rows("ps", "--timeout", "0")} == {"skipped"}


def test_ps_without_permission_counts_denied(backend: ModuleType, idle: processes.Process) -> None:
    """Denied processes are counted, and one line names the capability that would be enough."""
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")

    def run_unprivileged(*arguments: str) -> tuple[int, str]:
        from fastsmaps.cli.main import main

        linux.become(linux.NOBODY)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = main(list(arguments))
        return status, out.getvalue()

    status, text = processes.run_in_child(lambda: run_unprivileged("ps"))
    assert status == 0
    assert re.search(r"\d+ denied.*\ndenied: CAP_SYS_PTRACE would be enough", text)
    rows = json.loads(processes.run_in_child(lambda: run_unprivileged("ps", "--json"))[1])
    (row,) = [row for row in rows if row["pid"] == idle.pid]
    assert (row["outcome"], row["rss"], row["uid"]) == ("denied", None, 0)
    assert processes.run_in_child(lambda: run_unprivileged("totals", str(idle.pid)))[0] == 1


def test_capability_hint_is_shown_where_it_helps(backend: ModuleType, tmp_path: Path) -> None:
    """Root in a container normally lacks the capability; for a capture it would not help."""
    if os.geteuid() != 0:
        pytest.skip("only root drops its capabilities")
    saved = tmp_path / "saved"

    def run_unprivileged() -> list[str]:
        from fastsmaps.cli.main import main

        linux.become(0)
        texts = []
        for arguments in (["ps"], ["capture", "-o", str(saved)], ["ps", "--procfs", str(saved)]):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                main(arguments)
            texts.append(out.getvalue())
        return texts

    with processes.workload("idle") as undumpable:
        undumpable.request("undumpable")
        live, capture, replay = processes.run_in_child(run_unprivileged)
    assert "CAP_SYS_PTRACE would be enough" in live
    assert "CAP_SYS_PTRACE would be enough" in capture
    assert re.search(r"\d+ denied", replay)
    assert "CAP_SYS_PTRACE" not in replay


def test_ps_fields_and_sort(backend: ModuleType, idle: processes.Process, tmp_path: Path) -> None:
    """The given fields replace the default ones; sorting by any field still works."""
    rows = {row["pid"]: row for row in json_rows("ps", "--fields", "Private_Dirty, ppid,uss")}
    row = rows[idle.pid]
    assert list(row) == ["pid", "user", "outcome", "private_dirty", "ppid", "uss", "comm"]
    assert (row["ppid"], row["outcome"]) == (os.getpid(), "read")
    (most,) = json_rows("ps", "--fields", "uss", "--sort", "Rss", "--limit", "1")
    assert list(most) == ["pid", "user", "outcome", "uss", "comm"]
    (first,) = json_rows("ps", "--fields", "pid,pid", "--sort", "pid", "--limit", "1")
    assert list(first) == ["pid", "user", "outcome", "comm"]
    assert list(csv_rows("ps", "--fields", "swap")[0])[3:] == ["swap", "comm"]
    run("ps", "--fields", "rss,ppid", "--sort", "uss", "--parquet", f"{tmp_path}/a")
    stored = parquet.read_table(tmp_path / "a")
    assert stored.schema.equals(schema_of("processes")), "one schema for every option"
    names = {"host", "taken_at", "pid", "user", "outcome", "rss", "ppid", "comm"}
    assert {name for name in stored.column_names if stored[name].null_count < len(stored)} == names
    (row,) = [row for row in stored.to_pylist() if row["pid"] == idle.pid]
    assert (row["ppid"], row["outcome"]) == (os.getpid(), "read")
    assert (row["host"], row["rss"] > 0) == (os.uname().nodename, True)
    head, *lines = run(
        "ps", "--fields", "pss,ppid,user", "--filter", "workloads"
    ).stdout.splitlines()
    assert heads(head) == ["PID", "PSS KiB", "PPID", "USER", "COMMAND"]
    (line,) = [line.split() for line in lines if line.split()[:1] == [str(idle.pid)]]
    assert line[2] == str(os.getpid())
    (total,) = [line.split() for line in lines if line.startswith("total")]
    assert len(total) == 4, "ppid is not summed"


def test_fields_and_sort_read_what_they_name(backend: ModuleType, idle: processes.Process) -> None:
    """Naming a field in --fields or --sort is enough to read it."""
    (own,) = fastsmaps.scan([idle.pid], cgroup=True, cmdline=True)
    rows = {row["pid"]: row for row in json_rows("ps", "--fields", "cgroup,cmdline")}
    assert rows[idle.pid]["cgroup"] == own.cgroup
    assert tuple(rows[idle.pid]["cmdline"]) == own.cmdline
    assert json_rows("ps", "--sort=+cgroup")[0]["cgroup"] is not None
    assert "cmdline" in json_rows("ps", "--sort", "cmdline")[0]


def test_sort_by_rss_and_swap(backend: ModuleType) -> None:
    for name in ("rss+swap", "rss_swap", "Rss+Swap"):
        rows = json_rows("ps", "--sort", name, "--fields", "rss,swap,rss_swap")
        known = [row for row in rows if row["rss_swap"] is not None]
        assert known == sorted(known, key=lambda row: -row["rss_swap"])
        assert all(row["rss"] + row["swap"] == row["rss_swap"] for row in known)


def test_ps_by_fields(backend: ModuleType, idle: processes.Process) -> None:
    for row in json_rows("ps", "--by", "user", "--fields", "locked,pss"):
        assert list(row) == ["user", "processes", "unread", "locked", "pss"]
    text = run("ps", "--by", "user", "--fields", "Locked").stdout.splitlines()
    assert heads(text[0]) == ["LOCKED KiB", "PROCESSES", "USER"]


@pytest.mark.host
def test_unknown_field_lists_all_fields(backend: ModuleType) -> None:
    """The message lists every field."""
    for options in ((), ("--json",), ("--csv",), ("--sort", "pss")):
        for fields in ("nonsense", "rss,nonsense", "rss,", ""):
            done = run("ps", "--fields", fields, *options, status=2)
            assert done.stderr.count("\n") == 1
            assert "no field" in done.stderr
            listed = done.stderr.partition("there are: ")[2].split()
            assert {"pss", "uss", "size", "ppid", "cgroup", "cmdline", "start_time"} <= set(listed)
    assert "no field 'ppid'" in run("ps", "--by", "user", "--fields", "ppid", status=2).stderr


def test_part_of_the_hosts_memory(backend: ModuleType, tmp_path: Path) -> None:
    host = small_host(tmp_path / "host")
    procfs = ["--procfs", str(host)]
    # small_host() has no meminfo: then the column is left out, and a requested value is unknown.
    assert "MEM%" not in run("ps", *procfs).stdout
    assert json_rows("ps", *procfs, "--fields", "mem%")[0]["pss_percent"] is None
    (host / "meminfo").write_bytes(b"MemTotal: 10000 kB\n")
    (row, *_) = json_rows("ps", *procfs, "--fields", "pss,pss_percent")
    assert (row["pss"], row["pss_percent"]) == (500 << 10, 5.0)
    assert "pss_percent" not in json_rows("ps", *procfs)[0]
    head, first, *_, total = run("ps", *procfs).stdout.split("\n\n")[0].splitlines()
    place = heads(head).index("MEM%")
    assert first.split()[place] == "5.0"
    assert total.split()[place - 1] == "12.1"  # "total" stands below PID and USER
    head, *lines = run("ps", *procfs, "--by", "comm", "-s", "mem%").stdout.splitlines()
    assert [line.split()[heads(head).index("MEM%")] for line in lines[:4]] == [
        "8.0", "4.0", "0.1", "12.1"
    ]  # fmt: skip
    assert "MEM%" in on_terminal("ps", *procfs)
    assert "MEM%" not in run("ps", *procfs, "--tree").stdout
