"""Groups of processes: the same words in ps, export, diff and Scan.group_by()."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pyarrow import parquet

import fastsmaps
from fastsmaps._model.grouping import WORDS, Keys, search
from support import linux, processes
from support.commands import csv_rows, json_rows, run
from support.metrics import (
    HOSTILE,
    Metrics,
    parse_metrics,
    small_host,
    sweep_metrics,
    write_process,
)


def row_of(*words: str, exe: str | None = None) -> fastsmaps.ProcessTotals:
    """Return a process with this command line."""
    cmdline = b"".join(os.fsencode(word) + b"\0" for word in words)
    return fastsmaps.ProcessTotals(7, "read", comm="java", cmdline=cmdline, exe=exe)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    root = small_host(tmp_path / "host")
    (root / "7/cmdline").write_bytes(b"/usr/bin/java\0-Dapp=shop\0-Dzone=eu\0")
    (root / "8/cmdline").write_bytes(b"java\0-Dapp=shop\0-Dzone=us\0")
    (root / "9/cmdline").write_bytes(b"")
    (root / "7/exe").write_bytes(b"/usr/lib/jvm/java (deleted)")
    (root / "8/exe").write_bytes(b"/usr/lib/jvm/java")
    return root


def test_words_are_split_and_checked() -> None:
    for word in WORDS:
        assert Keys(word).names == (word,)
    assert Keys("user,comm").names == Keys(["user", "comm"]).names == ("user", "comm")
    assert Keys("user,user").names == ("user",)
    # A pattern takes the rest of the text, commas included.
    assert str(Keys("user,cmdline:a{1,2},comm")) == "user,cmdline:a{1,2},comm"
    assert Keys("user,cmdline:a{1,2},comm").names == ("user", "cmdline")
    assert Keys(["cmdline:a,b", "comm"]).names == ("cmdline", "comm")
    for wrong in ("", ",", "user,", "nonsense", "cmdline:", "comm:x", [], ["comm", "path"]):
        with pytest.raises(ValueError, match="one or several of comm, user"):
            Keys(wrong)
    for other in (7, [7], ["comm", None]):
        with pytest.raises(TypeError, match="one or several of comm, user"):
            Keys(other)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="only once"):
        Keys(["cmdline:a", "cmdline:b"])
    for wrong in ("cmdline:(", "cmdline:(?P<a>x)(?P<a>y)", "cmdline:*", "cmdline:\\"):
        with pytest.raises(ValueError, match="must have a valid regular expression"):
            Keys(wrong)


def test_a_pattern_gives_its_match_or_named_groups() -> None:
    row = row_of("java", "-Dapp=shop", "-Dzone=eu")
    for pattern, key in (
        ("app=(\\w+)", "app=shop"),  # the whole match
        ("app=(?P<app>\\w+)", "shop"),
        ("app=(?P<app>\\w+).*zone=(?P<zone>\\w+)", "shop eu"),
        ("(x)?app=(?P<app>\\w+)", "shop"),
        ("(?P<one>nothing)|app=(?P<other>\\w+)", "shop"),
        ("app=shop -Dzone", "app=shop -Dzone"),  # arguments with blanks between them
        ("nothing", ""),
        ("(?P<none>nothing)?java", ""),
    ):
        assert Keys(f"cmdline:{pattern}")(row) == key
    assert Keys("cmdline:java")(row_of()) == "java"  # of [java], as ps shows it
    assert Keys("cmdline:java")(fastsmaps.ProcessTotals(7, "read", comm="java")) is None
    assert Keys("cmdline")(row) == "java -Dapp=shop -Dzone=eu"
    assert len(str(Keys("cmdline:.*")(row_of("x" * 100_000)))) == 1024
    assert Keys("user,cmdline:shop")(row) == (None, "shop")


def test_exe_falls_back_to_comm_in_brackets() -> None:
    exe = Keys("exe")
    assert exe(row_of(exe="/usr/bin/java")) == exe(row_of(exe="/usr/bin/java (deleted)"))
    assert exe(row_of()) == "[java]"
    assert exe(fastsmaps.ProcessTotals(7, "gone")) is None


def test_exe_of_live_processes_and_of_a_capture(
    backend: ModuleType, idle: processes.Process, tmp_path: Path
) -> None:
    """A live process has a link, a capture the link's text; without the right comm is used."""
    (row,) = fastsmaps.scan([idle.pid], exe=True)
    assert row.exe == os.readlink(f"/proc/{idle.pid}/exe")
    assert fastsmaps.scan([idle.pid])[0].exe is None
    target = tmp_path / "saved"
    fastsmaps.capture(target, [idle.pid])
    assert (target / f"{idle.pid}/exe").read_text() == row.exe
    assert not (target / f"{idle.pid}/exe").is_symlink()
    (scan_capture,) = fastsmaps.scan(procfs=target, exe=True)
    assert scan_capture.exe == row.exe
    # A capture of the capture loses nothing.
    fastsmaps.capture(tmp_path / "again", procfs=target)
    assert fastsmaps.scan(procfs=tmp_path / "again", exe=True)[0].exe == row.exe
    with fastsmaps.Sampler(exe=True) as sampler:
        assert sampler.sweep().by_pid[idle.pid].exe == row.exe
    for shown in json_rows("ps", "--fields", "exe"):
        assert shown["pid"] != idle.pid or shown["exe"] == row.exe
    assert row.exe in {group["exe"] for group in json_rows("ps", "--by", "exe")}


def test_an_exe_link_in_a_capture_is_not_followed(backend: ModuleType, host: Path) -> None:
    (host / "9/exe").symlink_to("/etc/hostname")
    rows = fastsmaps.scan(procfs=host, exe=True)
    assert rows.by_pid[9].exe is None
    assert rows.by_pid[7].exe == "/usr/lib/jvm/java (deleted)"


def test_exe_without_rights_is_comm_in_brackets(
    backend: ModuleType, idle: processes.Process
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")

    def read() -> tuple[str | None, object]:
        linux.become(linux.NOBODY)
        (row,) = fastsmaps.scan([idle.pid], exe=True)
        return row.exe, Keys("exe")(row)

    exe, key = processes.run_in_child(read)
    assert exe is None
    assert key == f"[{fastsmaps.scan([idle.pid])[0].comm}]"


def test_exe_after_the_main_thread_has_exited(backend: ModuleType) -> None:
    with processes.workload("idle") as player:
        player.request("threads", 1)
        player.request("leave")
        (row,) = fastsmaps.scan([player.pid], exe=True)
        assert row.exe == os.path.realpath(sys.executable)


def test_a_scan_groups_by_several_words(backend: ModuleType, host: Path) -> None:
    scan = fastsmaps.scan(procfs=host, exe=True, cmdline=True, cgroup=True)
    counts = {key: group.count for key, group in scan.group_by("exe,unit").items()}
    assert counts == {
        ("/usr/lib/jvm/java", "web.service"): 2,
        ("[db]", "db@main.service"): 1,
        ("[init]", "init.scope"): 1,
    }
    groups = scan.group_by("cmdline:app=(?P<app>\\w+)")
    assert {key: group.count for key, group in groups.items()} == {"shop": 2, "": 2}
    assert scan.group_by("pid").keys() == {1, 7, 8, 9}
    assert list(fastsmaps.scan(procfs=host).group_by("cmdline:x")) == [None]
    assert fastsmaps.diff(scan, scan, by="user,exe") == []


def test_ps_groups_by_words_and_patterns(backend: ModuleType, host: Path, tmp_path: Path) -> None:
    by = ("ps", "--procfs", str(host), "--by")
    rows = json_rows(*by, "user,cmdline:app=(?P<app>\\w+)")
    assert [(row["user"], row["cmdline"], row["processes"], row["unread"]) for row in rows] == [
        (rows[0]["user"], "shop", 2, 0),
        ("4711", "", 1, 0),
        ("root", "", 1, 0),
    ]
    assert "(no match)" in run(*by, "cmdline:shop").stdout
    assert {line["exe"] for line in csv_rows(*by, "exe")} == {"/usr/lib/jvm/java", "[db]", "[init]"}
    run(*by, "cmdline,unit,pid", "--parquet", f"{tmp_path}/a")
    table = parquet.read_table(tmp_path / "a").to_pylist()
    assert (table[0]["cmdline"], table[0]["unit"], table[0]["pid"]) == (
        "/usr/bin/java -Dapp=shop -Dzone=eu", "web.service", 7,
    )  # fmt: skip
    for wrong in ("cmdline:(", "nonsense", "", "comm,nonsense"):
        for command in ("ps", "export"):
            more = ("--once",) if command == "export" else ()
            done = run(command, *more, "--procfs", str(host), "--by", wrong, status=2)
            assert done.stderr.count("\n") == 1
            assert re.search("--by:? must (be|have) ", done.stderr)


def test_groups_count_their_unread_processes(backend: ModuleType, host: Path) -> None:
    """A group's totals are of the processes that were read; the others are only counted."""
    write_process(host, 10, b"web", uid=33, Rss=10)
    (host / "10/smaps_rollup").write_bytes(b"damaged\n")
    write_process(host, 11, b"lost", Rss=10)
    (host / "11/smaps_rollup").write_bytes(b"damaged\n")
    rows = {row["comm"]: row for row in json_rows("ps", "--procfs", str(host), "--by", "comm")}
    assert (rows["web"]["processes"], rows["web"]["unread"]) == (2, 1)
    assert (rows["lost"]["processes"], rows["lost"]["unread"]) == (0, 1)
    assert rows["lost"]["pss"] is rows["lost"]["rss"] is None
    assert "lost" not in run("ps", "--procfs", str(host), "--by", "comm").stdout


def test_first_group_that_matches_names_a_process(
    backend: ModuleType, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named parts, comm and user are filled in; the rest is the group ""."""
    groups = ("eu {app}=app=(?P<app>\\w+).*zone=eu", "{comm}{=java", "never=java")
    words = tuple(f"group:{group}" for group in groups)
    scan = fastsmaps.scan(procfs=host, cmdline=True)
    sums = scan.group_by(words)
    assert {name: group.count for name, group in sums.items()} == {"eu shop": 1, "web{": 1, "": 2}
    by_user = scan.group_by([words[1], "user", words[0]])
    assert {key[0] for key in by_user} == {"web{", ""}
    assert Keys([words[1], "user", words[0]]).names == ("group", "user")
    assert Keys("user,group:a,b=x,y").words == ("user", "group:a,b=x,y")
    assert Keys("group:a=,cmdline:x").words == ("group:a=,cmdline:x",)
    assert Keys("cmdline:a,group:b=x").words == ("cmdline:a,group:b=x",)
    assert Keys("group:app-{user}=")(row_of("a")) == "app-"  # it matches all; the user is unknown
    assert Keys("group:{a}{b}=(?P<a>x)|(?P<b>y)")(row_of("y")) == "y"
    assert Keys("group:a=x")(fastsmaps.ProcessTotals(7, "read", comm="x")) is None
    assert len(str(Keys("group:{a}=(?P<a>.*)")(row_of("x" * 5000)))) == 1024
    for wrong in ("group:", "group:a", "group:=x", "group:{b}=x", "group:{pid}=x"):
        with pytest.raises(ValueError, match="by must have"):
            Keys(wrong)
    # At most so many results are kept.
    monkeypatch.setattr("fastsmaps._model.grouping._MAX_KEPT", 2)
    named = Keys("group:{n}=(?P<n>[0-9])")
    assert [named(row_of(str(i % 5))) for i in range(10)] == list("0123401234")


def test_commands_group_by_patterns(backend: ModuleType, host: Path) -> None:
    """Each --group is tried in turn; --by adds words."""
    shop = ("--group", "eu=zone=eu", "--group", "java {zone}=java.*zone=(?P<zone>\\w+)")
    rows = json_rows("ps", "--procfs", str(host), *shop)
    assert {row["group"]: row["processes"] for row in rows} == {"eu": 1, "java us": 1, "": 2}
    assert "(no match)" in run("ps", "--procfs", str(host), *shop).stdout
    rows = json_rows("ps", "--procfs", str(host), *shop, "--by", "comm")
    assert {(row["group"], row["comm"]) for row in rows} == {
        ("eu", "web"), ("java us", "web"), ("", "db"), ("", "init"),
    }  # fmt: skip
    metrics = parse_metrics(run("export", "--once", "--procfs", str(host), *shop).stdout)
    assert metrics.of("processes", "group") == {"eu": 1, "java us": 1, "": 2}
    rest = ("--group", "{comm}=")
    metrics = parse_metrics(run("export", "--once", "--procfs", str(host), *shop, *rest).stdout)
    assert metrics.of("processes", "group") == {"eu": 1, "java us": 1, "init": 1, "db": 1}
    for wrong in ("x", "=x", "x=(", "{y}=x"):
        for command in ("ps", "export"):
            assert "--group: must have" in run(command, "--group", wrong, status=2).stderr


def test_export_labels_by_words_and_patterns(backend: ModuleType, host: Path) -> None:
    metrics = sweep_metrics(host, "exe")
    assert metrics.get("processes", exe="/usr/lib/jvm/java") == 2
    assert metrics.get("processes", exe="[db]") == 1
    metrics = sweep_metrics(host, ("user", "cmdline:zone=(?P<zone>\\w+)"))
    assert metrics.get("processes", user=rows_user(host, 7), cmdline="us") == 1
    assert metrics.get("processes", user="4711", cmdline="") == 1
    assert metrics.get("folded_groups") == 0
    once = ("export", "--once", "--procfs", str(host), "--limit", "1", "--by")
    metrics = parse_metrics(run(*once, "unit,cmdline:-D(?P<x>.*),(?P<y>.*)").stdout)
    assert metrics.get("folded_groups") == 2


@pytest.mark.parametrize("by", ["cmdline", "exe", "cmdline:(?s:.*)"])
def test_hostile_labels_are_escaped_and_short(backend: ModuleType, host: Path, by: str) -> None:
    """They are escaped as other names are, and stay short."""
    for text in (*HOSTILE, b"x" * 100_000, b"\x1b" * 100_000):
        (host / "7/cmdline").write_bytes(text)
        (host / "7/exe").write_bytes(text)
        keys = {dict(labels)[by[:7].rstrip(":")] for _, labels in labelled(sweep_metrics(host, by))}
        assert all(key.isprintable() and len(key) <= 4 * 131072 for key in keys)
        if by != "exe":
            assert all(len(key) <= 4 * 1024 for key in keys)
        assert "other" not in keys


def labelled(metrics: Metrics) -> list[tuple[str, frozenset[tuple[str, str]]]]:
    return [series for series in metrics.samples if series[0] == "fastsmaps_processes"]


def rows_user(host: Path, pid: int) -> str:
    user = fastsmaps.scan(procfs=host).by_pid[pid].user
    assert user is not None
    return user


def test_diff_groups_by_words_and_patterns(backend: ModuleType, host: Path, tmp_path: Path) -> None:
    after = small_host(tmp_path / "after")
    for name in ("cmdline", "exe"):
        (after / "7" / name).write_bytes((host / "7" / name).read_bytes())
        (after / "8" / name).write_bytes((host / "8" / name).read_bytes())
    text = (after / "8/smaps_rollup").read_bytes()
    (after / "8/smaps_rollup").write_bytes(text.replace(b"300 kB", b"340 kB"))
    (row,) = json_rows("diff", str(host), str(after), "--by", "cmdline:zone=(?P<zone>\\w+)")
    assert (row["cmdline"], row["change"]) == ("us", 40960)
    (row,) = json_rows("diff", str(host), str(after), "--by", "exe,comm", "--filter", "jvm")
    assert (row["exe"], row["comm"], row["change"]) == ("/usr/lib/jvm/java", "web", 40960)
    (row,) = json_rows("diff", str(host), str(after), "--by", "pid")
    assert (row["pid"], row["change"]) == (8, 40960)


def test_a_quadratic_pattern_is_searched_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    r"""As ``\w+\.jar`` does: 18 s for 64 KiB of one letter."""
    clock = 0.0
    sizes = []

    class Slow:
        """A pattern that takes 5 ns for each pair of letters."""

        def search(self, text: str) -> re.Match[str] | None:
            nonlocal clock
            clock += 5e-9 * len(text) ** 2
            sizes.append(len(text))
            return re.search("x$", text)

    monkeypatch.setattr("time.thread_time", lambda: clock)
    match = search(Slow(), "x" * 131_072)  # type: ignore[arg-type]
    assert match is not None
    assert match.end() == sizes[-1] == max(sizes) == 1024
    assert clock < 0.05


@pytest.mark.parametrize("interrupted", [0, 1, 2, 3])
def test_a_fast_pattern_searches_a_long_command_line(
    monkeypatch: pytest.MonkeyPatch, interrupted: int
) -> None:
    """Java's class path, with the program after it; one search takes long, but not twice."""
    times = [0.0] * 100
    times[2 * interrupted + 1 :] = [4.0] * (99 - 2 * interrupted)
    clock = iter(times)
    monkeypatch.setattr("time.thread_time", lambda: next(clock))
    path = ":".join(f"/usr/lib/java/library-{i}.jar" for i in range(3_000))
    row = row_of("java", "-cp", path, "shop.Main")
    assert Keys(r"cmdline:(?P<name>\w+\.Main)$")(row) == "shop.Main"
    assert Keys(r"cmdline:library-2999\.jar")(row) == "library-2999.jar"
    assert Keys(r"cmdline:nothing")(row) == ""
