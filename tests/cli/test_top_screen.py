"""The live screen of fastsmaps top, driven by Textual's Pilot."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from textual import events

import fastsmaps
from fastsmaps._model.grouping import Keys
from fastsmaps.cli.screen.process_screen import ProcessScreen
from fastsmaps.cli.screen.processes import COLUMNS, Choices, ListRows, Marked
from fastsmaps.cli.screen.table import Table
from support.screens import (
    TopPilot,
    app_of,
    lines,
    replace,
    rows,
    run_top,
    screen_text,
    until,
    until_shown,
    write_host,
    write_memory,
)

#: Screens as they should be; delete one and run the tests to store it anew.
SCREENS = Path(__file__).parents[1] / "data" / "screens"


@pytest.fixture
def host(tmp_path: Path) -> str:
    return write_host(tmp_path / "host")


def pids(pilot: TopPilot) -> list[int]:
    return [int(re.split(r"\D", row.strip())[0]) for row in rows(pilot)]


def scroll_down(table: Table) -> events.MouseScrollDown:
    return events.MouseScrollDown(
        table, 1, 1, delta_x=0, delta_y=1, button=0, shift=False, meta=False, ctrl=False
    )


def check(pilot: TopPilot, name: str) -> None:
    """Compare with the stored screen."""
    path = SCREENS / f"{name}.txt"
    text = screen_text(pilot)
    if not path.exists():
        path.write_text(text)
        pytest.fail(f"{path} was missing: stored, look at it")
    assert text == path.read_text()


# ---- snapshots


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (120, 16), (300, 80)])
def test_list_at_sizes(host: str, size: tuple[int, int]) -> None:
    async def play(pilot: TopPilot) -> None:
        check(pilot, f"list-{size[0]}x{size[1]}")

    run_top(play, host, size=size)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("tree", "t"),
        ("tree-closed", "t j j minus"),
        ("search", "slash w o r k"),
        ("search-tree", "slash w o r k enter t"),
        ("help", "h"),
        ("columns", "c"),
        ("group-menu", "g"),
        ("users", "u"),
        ("sort-command", "C"),
        ("process", "enter"),
        ("process-help", "enter h"),
        ("process-ranges", "enter a"),
        ("process-kinds", "enter i"),
        ("process-inside", "enter enter"),
    ],
)
def test_screen_after_keys(host: str, name: str, keys: str) -> None:
    async def play(pilot: TopPilot) -> None:
        for key in keys.split():
            await pilot.press(key)
            if key == "enter" and isinstance(pilot.app.screen, ProcessScreen):
                await until_shown(pilot, "a capture")
        await pilot.pause()
        check(pilot, name)

    run_top(play, host, size=(100, 22))


# ---- the list


def test_sort_keys_heads_and_reverse(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        assert pids(pilot) == [21, 20, 23, 22, 40, 1, 50]
        await pilot.press("N")
        assert pids(pilot) == [1, 20, 21, 22, 23, 40, 50]
        await pilot.press("r")
        assert pids(pilot) == [50, 40, 23, 22, 21, 20, 1]
        await pilot.press("R")
        assert "RSS▼" in screen_text(pilot)
        head = next(line for line in lines(pilot) if "PSS" in line)
        # A click sorts by the column, another one reverses the order.
        where = (head.index("PID") + 1, 3)
        await pilot.click(offset=where)
        assert pids(pilot) == [1, 20, 21, 22, 23, 40, 50]
        await pilot.click(offset=where)
        assert pids(pilot) == [50, 40, 23, 22, 21, 20, 1]
        await pilot.press("P", "greater_than_sign")
        assert "USS▼" in screen_text(pilot)
        await pilot.press("less_than_sign")
        assert "PSS▼" in screen_text(pilot)

    run_top(play, host)


def test_selection_stays_on_its_process(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        table = pilot.app.screen.query_one(Table)
        await pilot.press("j", "j")
        assert table.selected == (23, 0.23)
        await pilot.press("N")
        assert table.selected == (23, 0.23)
        await pilot.press("k")
        assert table.selected == (22, 0.22)
        await pilot.press("end")
        assert table.selected == (50, 0.5)
        await pilot.press("escape")  # back to the top, and no process is followed
        assert table.selected == (1, 0.01)
        await pilot.press("P")
        assert table.selected == (21, 0.21)

    run_top(play, host)


def test_selected_row_is_reversed_except_bars(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        for keys in ((), ("t", "j")):
            await pilot.press(*keys)
            table = pilot.app.screen.query_one(Table)
            place = table.rows.place(table.selected)
            assert place is not None
            strip = table.render_line(place + 1)
            plain = [s.text for s in strip if not (s.style and s.style.reverse)]
            assert plain == ([] if keys else ["█████████", "▒"])

    run_top(play, host)


def test_scrolling_reaches_every_row(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        assert len(rows(pilot)) == 4
        seen = set(pids(pilot))
        await pilot.press("pagedown")
        await pilot.pause()
        seen |= set(pids(pilot))
        await pilot.press("pagedown")
        await pilot.pause()
        seen |= set(pids(pilot))
        assert seen == {21, 20, 23, 22, 40, 1, 50}
        await pilot.press("home")
        await pilot.pause()
        assert pids(pilot)[0] == 21
        table = pilot.app.screen.query_one(Table)
        table.post_message(scroll_down(table))
        await until(pilot, lambda: pids(pilot)[0] != 21)

    run_top(play, host, size=(100, 9))


def test_search_filters_as_one_types(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        await pilot.press("slash", "w")
        assert set(pids(pilot)) == {20, 22, 23}  # "postgres: writer", worker.py
        await pilot.press("o", "r")
        assert set(pids(pilot)) == {22, 23}
        await pilot.press("t")  # a letter of the search, not the key for trees
        assert pids(pilot) == []
        await pilot.press("backspace", "enter")
        assert set(pids(pilot)) == {22, 23}
        await pilot.press("escape")
        assert len(pids(pilot)) == 7
        # Keys that are typed at once, before anything is drawn.
        await pilot.press("slash", *"queue=b", "enter")
        assert pids(pilot) == [23]

    run_top(play, host)


def test_capital_letters_in_a_search_are_exact(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        await pilot.press("slash", *"POSTGRES")
        assert pids(pilot) == []
        await pilot.press("ctrl+u", *"red")
        assert pids(pilot) == [50]

    run_top(play, host)


def test_tree_sums_whole_trees(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        await pilot.press("t")
        assert pids(pilot) == [1, 20, 21, 23, 22, 40, 50]
        scan, shown = app_of(pilot).list.scan, app_of(pilot).list.rows
        assert scan is not None
        assert shown is not None
        sums = {pid: scan.descendants(pid).totals().pss for pid in pids(pilot)}
        assert {shown.process(i).pid: shown._sums[shown.process(i).pid] for i in range(7)} == sums
        await pilot.press("j", "minus")
        assert pids(pilot) == [1, 20, 40, 50]
        await pilot.press("plus")
        assert len(pids(pilot)) == 7

    run_top(play, host)


def test_all_trees_close_and_open(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        await pilot.press("t", "asterisk")
        assert pids(pilot) == [1]
        await pilot.press("asterisk")
        assert len(pids(pilot)) == 7

    run_top(play, host)


def test_memory_of_the_host_over_time(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        text = Path(host, "meminfo").read_bytes()
        replace(
            Path(host, "meminfo"), text.replace(b"MemAvailable: 786432", b"MemAvailable: 286432")
        )
        await until_shown(pilot, "744M used")
        await until(pilot, lambda: re.search("used ▁+█", lines(pilot)[0]))

    run_top(play, host, size=(160, 20), interval=0.01)


def test_groups_and_their_processes(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        await pilot.press("g", "down", "down", "down", "down", "enter")
        await until_shown(pilot, "groups by unit")
        assert [row.split()[-1] for row in rows(pilot)] == ["db.service", "(none)", "init.scope"]
        await pilot.press("g", "down", "down", "enter")
        await until_shown(pilot, "groups by container")
        assert [row.split()[-1] for row in rows(pilot)] == ["(none)", "docker:0123456789ab"]
        await pilot.press("escape")
        await pilot.press("g", "down", "down", "enter")
        await until_shown(pilot, "groups by user")
        await pilot.press("enter")  # the processes of a group
        await until_shown(pilot, "3 processes, by pss, in user root")
        assert pids(pilot) == [21, 20, 1]

    run_top(play, host)


def test_opened_groups_are_exact(host: str) -> None:
    """A group shows its own processes: also without a name, or named as a part of another one."""

    async def play(pilot: TopPilot) -> None:
        await pilot.press("g", *["down"] * 4, "enter")  # units
        await until_shown(pilot, "groups by unit")
        await pilot.press("enter")
        await until_shown(pilot, "2 processes, by pss, in unit db.service")
        assert pids(pilot) == [21, 20]
        await pilot.press("g", "down", "down", "enter")  # by user, inside the unit
        await until_shown(pilot, "1 group by user, by pss, in unit db.service")
        await pilot.press("enter")
        await until_shown(pilot, "in unit db.service, in user root")
        for shown in ("1 group by user", "2 processes", "3 groups by unit"):
            await pilot.press("escape")
            await until_shown(pilot, shown)
        assert app_of(pilot).screen.query_one(Table).selected == ("group", "db.service")
        await pilot.press("j", "enter")
        await until_shown(pilot, "in unit (none)")
        assert pids(pilot) == [23, 22, 40, 50]

    run_top(play, host)


@pytest.mark.parametrize("tree", [False, True])
@pytest.mark.parametrize("name", [*COLUMNS, "command", "cgroup", "outcome", "error", "estimated"])
def test_sort_by_every_field(host: str, name: str, tree: bool) -> None:
    """As --sort takes them; some have no value for a process that ended or could not be read."""
    for pid, files in (
        (20, ("smaps_rollup", "smaps", "status", "stat", "cgroup")),
        (40, ("stat",)),
    ):
        for file in files:
            Path(host, str(pid), file).unlink()
    scan = fastsmaps.scan(procfs=host, cmdline=True, cgroup=True)
    choices = Choices()
    choices.tree = tree
    choices.sort_by(name)
    for _ in range(2):
        rows = ListRows(scan, choices, Marked(scan), 1 << 30)
        assert {rows.process(i).pid for i in range(len(rows))} >= {1, 21, 22, 23, 50}
        assert all(len(rows.cells(i)) == len(rows.columns) for i in range(len(rows)))
        choices.reverse = True


def test_group_by_several_words(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        assert rows(pilot)[0].split()[-2:] == ["root,", "postgres"]

    choices = Choices()
    choices.by = Keys("user,comm")
    run_top(play, host, choices=choices)


def test_one_user(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        await pilot.press("u", "down", "enter")
        await until_shown(pilot, "of user")
        assert pids(pilot) == [23, 22, 40, 50]
        await pilot.press("u", "home", "enter")
        await until(pilot, lambda: len(pids(pilot)) == 7)

    run_top(play, host)


def test_columns(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        await pilot.press("c", "space", "enter")  # without the pid
        await until(pilot, lambda: "PID" not in screen_text(pilot))

    run_top(play, host)


def test_budget_and_pause(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        await pilot.press("b")
        assert "budget 2%" in screen_text(pilot)
        await pilot.press("B", "B")
        assert "budget 0.5%" in screen_text(pilot)
        await pilot.press("plus", "plus")
        assert "budget 2%" in screen_text(pilot)
        await pilot.press("space")
        assert "PAUSED" in screen_text(pilot)
        scan = app_of(pilot).list.scan
        await pilot.pause(0.1)
        assert app_of(pilot).list.scan is scan
        await pilot.press("space")
        await until(pilot, lambda: app_of(pilot).list.scan is not scan)
        assert "PAUSED" not in screen_text(pilot)

    run_top(play, host, interval=0.01)


def test_growth_of_processes_since_the_mark(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        directory = Path(host, "22")
        write_memory(directory, 13000, 2000)
        replace(directory / "statm", b"15000 3750 10 1 0 20 0\n")
        await until_shown(pilot, "+9.8M")
        await pilot.press("G")
        assert pids(pilot)[0] == 22
        await pilot.press("d")
        await until(pilot, lambda: "+9.8M" not in screen_text(pilot))
        assert "GREW since HH:MM:SS" in screen_text(pilot)

    run_top(play, host, interval=0.01, budget=1.0)


def test_names_cannot_write_to_the_terminal(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        text = screen_text(pilot)
        assert "\x1b" not in text
        assert r"\x1b[31mred\xff\n" in text
        assert "漢字 漢字 漢字" in text

    run_top(play, host)


def test_left_and_right_shift_long_commands(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        assert "queue" not in screen_text(pilot)
        await pilot.press(*["right"] * 2)
        assert "queue" in screen_text(pilot)
        await pilot.press(*["left"] * 3)
        assert "python3" in screen_text(pilot)

    run_top(play, host, size=(60, 20))


def test_resize(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        await pilot.resize_terminal(44, 10)
        await pilot.pause()
        assert max(map(len, lines(pilot))) <= 44
        assert len(lines(pilot)) == 10
        assert "USER" not in screen_text(pilot)
        await pilot.resize_terminal(160, 30)
        await pilot.pause()
        assert "MEM%" in screen_text(pilot)
        assert len(rows(pilot)) == 7

    run_top(play, host)


def test_sweep_that_ends_while_the_app_does(host: str) -> None:
    """Its rows had nowhere to go: a traceback."""

    async def play(pilot: TopPilot) -> None:
        app = app_of(pilot)
        assert app.list.scan is not None
        await app.list.remove_children()
        app.list.show_scan(app.list.scan)

    run_top(play, host)


def test_error_of_a_sweep_ends_the_screen(host: str) -> None:
    async def play(pilot: TopPilot) -> None:
        shutil.rmtree(host)
        await until(pilot, lambda: app_of(pilot).failure is not None)

    app = run_top(play, host, interval=0.01)
    assert isinstance(app.failure, fastsmaps.Error)
