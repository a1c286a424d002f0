"""The rows of the screen of one process: its mappings, alone or in groups, and how each grew."""

from __future__ import annotations

from collections.abc import Hashable

import fastsmaps
from fastsmaps._model.changes import rank
from fastsmaps._model.totals import NO_NAME
from fastsmaps._output.display import escaped
from fastsmaps.cli.screen.drawing import memory_bar, short, signed
from fastsmaps.cli.screen.search import contains
from fastsmaps.cli.screen.table import Column

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastsmaps._model.mappings import Mappings
    from fastsmaps._model.totals import Change
    from fastsmaps.cli.screen.table import Cell

#: The ways to show mappings, by the key that chooses them.
VIEWS = {"u": "use", "i": "kind", "p": "path", "a": "range"}
_SIZES = ("pss", "uss", "rss", "swap", "size")
_BAR_WIDTH = 10
#: The fewest cells of a name.
_MIN_NAME = 22


def name_of(view: str) -> str:
    """Return the name of a view for people."""
    return "address" if view == "range" else view


class _Item:
    """A row: its key, its name, its sizes, and its change since the mark."""

    __slots__ = ("change", "count", "key", "name", "perms", "values")

    def __init__(
        self,
        key: Hashable,
        name: str,
        values: Callable[[str], int | None],
        count: int,
        change: Change | None,
        perms: str = "",
    ) -> None:
        self.key, self.name, self.values, self.count = key, name, values, count
        self.change, self.perms = change, perms

    def value(self, name: str) -> Any:  # noqa: ANN401 - a size, a number or a name
        """Return what a column shows, and rows are sorted by."""
        if name == "grew":
            return 0 if self.change is None else rank(self.change)[0]
        if name == "count":
            return self.count
        if name in ("name", "perms", "address"):
            return self.key if name == "address" else getattr(self, name)
        return self.values("pss" if name == "bar" else name)


class MappingRows:
    """The mappings of `new` in a view, with their growth since `old`.

    `inside` is a view and the key of one of its groups: only that group's mappings are rows.
    """

    def __init__(
        self,
        old: Mappings,
        new: Mappings,
        view: str,
        *,
        query: str = "",
        sort: str = "pss",
        inside: tuple[str, Hashable] | None = None,
    ) -> None:
        if inside is not None:
            old, new = _members(old, *inside), _members(new, *inside)
        changes = {change.key: change for change in fastsmaps.diff(old, new, by=view)}
        items = _ranges(new, changes) if view == "range" else _groups(new, view, changes)
        gone = [
            _Item(key, f"{_key_name(key)} (gone)", lambda name: 0, 0, change)
            for key, change in changes.items()
        ]
        self.descending = sort not in ("name", "perms", "address")
        self.total = len(items) + len(gone)
        self._items = [item for item in (*items, *gone) if contains(item.name, query)]
        if sort != "address":
            present = [item for item in self._items if item.value(sort) is not None]
            missing = [item for item in self._items if item.value(sort) is None]
            # Those that did not grow are in the order of Pss.
            present.sort(key=lambda item: item.values("pss") or 0, reverse=True)
            present.sort(key=lambda item: item.value(sort), reverse=self.descending)
            self._items = present + missing
        self._largest = max((item.values("pss") or 0 for item in self._items), default=0)
        self._places: dict[Hashable, int] | None = None
        first = (
            [Column("address", "ADDRESS", 12, rank=2), Column("perms", "PERM", 4, rank=8)]
            if view == "range"
            else [Column("count", "MAPS", 6, rank=6)]
        )
        head = "NAME" if view == "range" else view.upper()
        self.columns = [
            *first,
            Column("bar", "MEMORY", _BAR_WIDTH, right=False, rank=9),
            Column("pss", "PSS", 7),
            Column("uss", "USS", 7, rank=3),
            Column("rss", "RSS", 7, rank=4),
            Column("swap", "SWAP", 7, rank=5),
            Column("size", "SIZE", 7, rank=6),
            Column("grew", "GREW", 8, rank=1),
            Column("name", head, _MIN_NAME, right=False, keeps_end=True),
        ]

    def __len__(self) -> int:
        return len(self._items)

    def key(self, index: int) -> Hashable:
        """Return the key of the group or the address of the mapping."""
        return self._items[index].key

    def place(self, key: Hashable) -> int | None:
        """Return the index of the row with this key."""
        if self._places is None:
            self._places = {item.key: i for i, item in enumerate(self._items)}
        return self._places.get(key)

    def cells(self, index: int) -> list[Cell]:
        """Return a row's cells."""
        item = self._items[index]
        return [_cell(item, column.name, self._largest) for column in self.columns]


def _cell(item: _Item, name: str, largest: int) -> Cell:
    value = item.value(name)
    if name == "bar":
        return memory_bar(item.values("uss"), item.values("pss"), largest, _BAR_WIDTH)
    if name == "grew":
        text = signed(value)
        return [(text.rjust(8), "red" if value > 0 else "green")] if text else ""
    if name == "address":
        return f"{value[0]:x}" if isinstance(value, tuple) and isinstance(value[0], int) else ""
    if name in _SIZES:
        return short(value)
    return escaped(str(value))


def _groups(table: Mappings, view: str, changes: dict[Any, Change]) -> list[_Item]:
    return [
        _Item(key, _key_name(key), group.totals.get, group.count, changes.pop(key, None))
        for key, group in table.group_by(view).items()
    ]


def _ranges(table: Mappings, changes: dict[Any, Change]) -> list[_Item]:
    # The key of a change is its range in the new table, and the path.
    by_start = {(int(key[0].partition("-")[0], 16), key[1]): key for key in changes}
    items = []
    for row in table:
        start = (row.start, row.path)
        key = by_start.get(start)
        change = None if key is None else changes.pop(key, None)
        items.append(_Item(start, row.path or NO_NAME, row.get, 1, change, row.perms))
    return items


def _members(table: Mappings, view: str, key: Hashable) -> Mappings:
    if view == "use":
        uses = iter(table.uses())
        return table.filter(lambda row: next(uses) == key)
    return table.filter(lambda row: getattr(row, view) == key)


def _key_name(key: object) -> str:
    if isinstance(key, tuple):
        return " ".join(_key_name(part) for part in key)
    return str(key) or NO_NAME
