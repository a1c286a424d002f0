"""The command, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from support.commands import ZOO, environment, heads, run


def test_ps_lists_all_processes(backend: ModuleType) -> None:
    output = run().stdout
    assert heads(output.splitlines()[0]) == [
        "PID",
        "USER",
        "PSS KiB",
        "USS KiB",
        "RSS KiB",
        "SWAP KiB",
        "MEM%",
        "COMMAND",
    ]
    assert "processes read" in output
    rows = json.loads(run("--json").stdout)
    mine = {row["pid"]: row for row in rows}[os.getpid()]
    assert (mine["outcome"], mine["uid"], mine["ppid"]) == ("read", os.geteuid(), os.getppid())
    assert mine["pss"] > 1_000_000
    for row in rows:
        assert (row["outcome"] == "read") == (row["rss"] is not None)
    sizes = [row["pss"] for row in rows if row["pss"] is not None]
    assert sizes == sorted(sizes, reverse=True)


def test_totals_of_a_process(backend: ModuleType) -> None:
    pid = str(os.getpid())
    both = run("totals", pid, str(2**31 - 1), "--json", status=1)
    (row,) = json.loads(both.stdout)
    assert (row["pid"], row["source"]) == (os.getpid(), "smaps_rollup")
    assert row["rss"] > 1_000_000
    assert both.stderr.count("\n") == 1
    assert "no process" in both.stderr
    assert "pss" in run("totals", pid, ZOO).stdout
    assert run("totals", "0", status=1).stderr.startswith("fastsmaps: ")


def test_maps_of_a_process(backend: ModuleType) -> None:
    rows = json.loads(run("maps", ZOO, "--json").stdout)
    assert len(rows) == 110
    assert {"start", "perms", "dev", "kind", "deleted", "vm_flags", "rss"} <= set(rows[0])
    text = run("maps", "-", input=Path(ZOO).read_text("latin-1")).stdout
    assert text.splitlines()[-1].startswith("total")
    assert all(line.isprintable() for line in text.splitlines())
    assert "no process or file called" in run("maps", "nothing-there", status=1).stderr


def test_hostile_names_are_escaped(backend: ModuleType, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.write_bytes(b"1000-2000 r--p 0 0:0 5 /tmp/\x1b[31m\xff\x07\n")
    for arguments in (("maps", str(saved)), ("maps", str(saved), "--json")):
        assert "\x1b" not in run(*arguments).stdout
    assert r"/tmp/\x1b[31m\xff\x07" in run("maps", str(saved)).stdout


def test_usage_errors_and_closed_pipes(backend: ModuleType) -> None:
    run("nonsense", status=2)
    run("maps", status=2)
    assert "usage" in run("--help").stdout
    shell = f"{sys.executable} -m fastsmaps maps {ZOO} | head -n 1"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stderr == ""
    assert "ADDRESS" in done.stdout
