"""fastsmaps totals, maps, and libs: text, JSON, CSV."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import fastsmaps
from support import processes
from support.commands import OTHER, ZOO, csv_rows, heads, json_rows, run
from support.smaps_texts import record


def test_totals_output(backend: ModuleType, idle: processes.Process) -> None:
    (row,) = json_rows("totals", str(idle.pid))
    assert (row["pid"], row["source"]) == (idle.pid, "smaps_rollup")
    (line,) = csv_rows("totals", ZOO)
    assert (line["pid"], line["source"], line["nonlinear"]) == ("", "smaps", "")
    assert line["pss"] == str(fastsmaps.load(ZOO).totals().pss)
    assert json_rows("totals", str(idle.pid), "--filter", "no such thing", status=1) == []
    # A process without arguments is seen as ps shows it.
    thread = processes.kernel_thread()
    if thread is not None:
        assert json_rows("totals", str(thread), "--filter", "^(?!\\[)", status=1) == []
    assert run("totals", ZOO, OTHER).stdout.splitlines()[0].split()[0] == "KiB"
    assert run("totals", "0", status=1).stderr.count("\n") == 1


def test_maps_output(backend: ModuleType) -> None:
    rows = json_rows("maps", ZOO)
    wanted = {"start", "end", "perms", "offset", "dev", "inode", "path", "kind", "deleted"}
    assert all({*wanted, "vm_flags", "rss"} <= set(row) for row in rows)
    table = fastsmaps.load(ZOO)
    assert len(rows) == len(table) == len(csv_rows("maps", ZOO))
    kinds = {row["kind"]: row for row in json_rows("maps", ZOO, "--by", "kind")}
    groups = table.group_by("kind")
    assert {kind: row["pss"] for kind, row in kinds.items()} == {
        kind: group.totals.pss for kind, group in groups.items()
    }
    some = json_rows("maps", ZOO, "--by", "path", "--filter", "memfd")
    assert some
    assert all("memfd" in row["path"] for row in some)
    text = run("maps", ZOO, "--fields", "rss,swap,Locked").stdout.splitlines()
    assert heads(text[0]) == [
        "ADDRESS",
        "PERMS",
        "RSS KiB",
        "SWAP KiB",
        "LOCKED KiB",
        "KIND",
        "PATH",
    ]
    assert text[-1].startswith("total")
    assert json_rows("maps", ZOO, "--sort=-pss", "--limit", "1")[0]["pss"] == max(
        row["pss"] for row in rows
    )


def test_maps_fields_and_sort(backend: ModuleType) -> None:
    """JSON has the given fields and those that identify a row; sorting is by any field."""
    (row,) = json_rows("maps", ZOO, "--fields", "Swap,rss", "--sort=-pss", "--limit", "1")
    assert list(row) == ["start", "end", "perms", "swap", "rss", "kind", "path"]
    (most,) = json_rows("maps", ZOO, "--sort=-pss", "--limit", "1")
    assert row.items() <= most.items()
    assert set(csv_rows("maps", ZOO, "--fields", "path,inode")[0]) == {
        "start", "end", "perms", "path", "inode", "kind",
    }  # fmt: skip
    for by in ("path", "kind"):
        assert list(json_rows("maps", ZOO, "--by", by, "--fields", "rss,uss")[0]) == [
            by, "mappings", "rss", "uss",
        ]  # fmt: skip
    words = ("maps", ZOO, "--fields", "rss", "--filter", "no such thing", "--csv")
    assert run(*words, status=1).stdout == "start,end,perms,rss,kind,path\n"
    for more in ((), ("--by", "kind"), ("--filter", "no such thing"), ("--json",)):
        done = run("maps", ZOO, "--fields", "rss,nonsense", *more, status=2)
        assert "no field 'nonsense'" in done.stderr


def test_filter_groups_of_concatenated_texts(backend: ModuleType, tmp_path: Path) -> None:
    """Two programs start at the same address, and the filter matches one of them."""
    text = record(0x400000, 0x401000, b"/bin/a", Rss=4) + record(0x400000, 0x402000, b"/bin/b")
    (tmp_path / "two").write_bytes(text)
    for by in ("path", "kind"):
        (row,) = json_rows("maps", f"{tmp_path}/two", "--by", by, "--filter", "/a$")
        assert (row["mappings"], row["size"], row["rss"]) == (1, 4096, 4096)


def test_fields_without_unit_are_not_summed(backend: ModuleType) -> None:
    """Fields that are not sizes are shown unchanged and not summed."""
    fields = "inode,offset,kernel_page_size,deleted,start"
    text = run("maps", ZOO, "--fields", fields).stdout.splitlines()
    table = fastsmaps.load(ZOO)
    assert [line.split()[2:7] for line in text[1:-1]] == [
        [str(m.inode), str(m.offset), str((m.kernel_page_size or 0) // 1024), str(m.deleted),
         str(m.start)]
        for m in table
    ]  # fmt: skip
    assert text[-1].split() == ["total", str(len(table)), "mappings"]
    text = run("maps", ZOO, "--by", "kind", "--fields", "kind,mappings,rss").stdout.splitlines()
    groups = table.group_by("kind")
    assert [line.split()[:2] for line in text[1:-1]] == [
        [kind, str(group.count)] for kind, group in groups.items()
    ]


def test_libs_output(backend: ModuleType, idle: processes.Process) -> None:
    rows = json_rows("libs", str(idle.pid))
    assert all({"path", "processes", "pss"} <= set(row) for row in rows)
    assert {row["processes"] for row in rows} == {1}
    found = json_rows("libs", "--filter", "libc")
    assert all("libc" in row["path"] for row in found)
    assert "processes read" in run("libs").stdout
    assert run("libs", "1x", status=2).stderr.count("\n") == 1
    with processes.zombie() as ended:
        done = run("libs", str(ended), str(idle.pid), status=1)
        assert done.stderr.splitlines() == [
            f"fastsmaps: process {ended} is a zombie: it has no memory map"
        ]
    run("libs", str(idle.pid), str(idle.pid))  # named twice, and read


def test_known_fields_that_no_mapping_has(backend: ModuleType, tmp_path: Path) -> None:
    """A script may name a field that this kernel, or maps, does not print."""
    file = tmp_path / "maps"
    file.write_text("00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/a\n")
    (row,) = json_rows("maps", str(file), "--fields", "pss,nonlinear")
    assert (row["pss"], row["nonlinear"]) == (None, None)
    (row,) = json_rows("maps", str(file), "--sort", "pss")
    assert "pss" not in row
    (row,) = json_rows("maps", str(file), "--by", "kind", "--fields", "ksm")
    assert row["ksm"] is None
    assert "no field 'psss'" in run("maps", str(file), "--fields", "psss", status=2).stderr
