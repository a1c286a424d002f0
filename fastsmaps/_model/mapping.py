"""Mapping: one row of a table."""

from __future__ import annotations

import os

from fastsmaps._arguments import Any
from fastsmaps._fields import NAMES, Fields
from fastsmaps._model.kinds import file_name, is_deleted, is_unnamed_device, kind_of
from fastsmaps._model.record import Record, add_fields
from fastsmaps._model.sizes import human
from fastsmaps._public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from fastsmaps._backend import Row, RowHead

    # The keys of as_dict(), and the names of the fields among them.
    Layout: TypeAlias = tuple[dict[str, Any], tuple[str, ...]]
    # The texts of a row in as_dict(): perms, dev, path, kind, deleted, vm_flags.
    Texts: TypeAlias = tuple[str, str, str, str, bool, tuple[str, ...] | None]

#: The text of perms, by a row's number.
PERMS = tuple("-r"[i & 1] + "-w"[i >> 1 & 1] + "-x"[i >> 2 & 1] + "ps-"[i >> 3] for i in range(24))
#: The kernel's name for the only record of smaps_rollup.
ROLLUP = b"[rollup]"
#: The bit for a shared mapping in the number of perms.
SHARED = 8
#: The place of the first field in a row of a backend's table.
FIRST_FIELD = 9
#: Stands for no group in the sums() of such a table.
NO_GROUP = 2**32 - 1


def is_rollup(row: Row | RowHead) -> bool:
    """Whether a row is the sum of a process: ``[rollup]`` with ``---p 00000000 00:00 0``."""
    # No mapping has that name: a file's begins with a slash, others are [anon:...].
    return row[6] == ROLLUP and row[2:5] == (0, 0, 0) and row[5].strip(b"0") == b":"


# The keys of Mapping.as_dict() before the fields; ``extra`` comes after them.
_HEAD = (
    "start", "end", "size", "perms", "offset", "dev", "inode", "path", "kind", "deleted",
    "vm_flags",
)  # fmt: skip
_EVERY_FIELD = Fields()
_MAX_KEPT = 64


# Kept by labels: a kernel always prints the same ones, and naming them takes 10 us.
_fields: dict[tuple[str, ...], Fields] = {}
_places: dict[tuple[str, ...], dict[str, int]] = {}
# Kept by name, perms, device and flags: most mappings of a process share them with others.
_texts: dict[tuple[bytes, int, bytes, bytes | None], Texts] = {}
# A text may hold names of any length: 1,024 short ones take at most 1 MB.
_MAX_TEXTS = 1024
_MAX_TEXT = 512
# The places of the latest row, and what layout_of() returns: the rows of a table share them.
_recent: tuple[dict[str, int], Layout] = {}, ({}, ())


def fields_of(labels: Iterable[str]) -> Fields:
    """Return the fields of a table of mappings with these labels."""
    key = tuple(labels)
    fields = _fields.get(key)
    if fields is None:
        if len(_fields) >= _MAX_KEPT:
            _fields.clear()
        fields = _fields[key] = Fields(key)
    return fields


def places_of(labels: tuple[str, ...]) -> dict[str, int]:
    """Return the place of each field in a row; tables with the same labels share the dict."""
    places = _places.get(labels)
    if places is None:
        if len(_places) >= _MAX_KEPT:
            _places.clear()
        places = _places[labels] = {label: FIRST_FIELD + i for i, label in enumerate(labels)}
    return places


def layout_of(places: dict[str, int]) -> Layout:
    """Return a dict with the keys of as_dict(), in order, and the names of the fields in it.

    The copy of a dict has room for all keys: to insert them into an empty one takes longer.
    """
    global _recent
    recent = _recent
    if recent[0] is not places:
        # Labels are in the order of their places, which begin at FIRST_FIELD.
        names = tuple(fields_of(places).names.values())
        recent = _recent = places, (dict.fromkeys((*_HEAD, *names, "extra")), names)
    return recent[1]


def put_head(result: dict[str, Any], head: RowHead) -> None:
    """Put all values but the fields of a row into its dict."""
    start, end, offset, inode, number, device, name, flags, extra = head
    texts = _texts.get((name, number, device, flags)) or _texts_of(name, number, device, flags)
    result["start"] = start
    result["end"] = end
    result["size"] = None if name == ROLLUP and is_rollup(head) else end - start
    result["offset"] = offset
    result["inode"] = inode
    (
        result["perms"],
        result["dev"],
        result["path"],
        result["kind"],
        result["deleted"],
        result["vm_flags"],
    ) = texts
    result["extra"] = {} if extra is None else dict(extra)


def _texts_of(name: bytes, number: int, device: bytes, flags: bytes | None) -> Texts:
    """Return the texts of a row, and keep short ones."""
    codes = None if flags is None else flags.split()
    hugetlb = codes is not None and b"ht" in codes
    kind = kind_of(name, bool(number & SHARED), hugetlb, is_unnamed_device(device))
    texts = (
        PERMS[number],
        device.decode("ascii"),
        os.fsdecode(name),
        kind,
        is_deleted(name, kind),
        None if codes is None else tuple(map(os.fsdecode, codes)),
    )
    if len(name) + len(device) + len(flags or b"") <= _MAX_TEXT:
        if len(_texts) >= _MAX_TEXTS:
            _texts.clear()
        _texts[name, number, device, flags] = texts
    return texts


@public
class Mapping(Record):
    """One mapping (one VMA, one record of smaps); immutable, hashable, equal by value.

    Sizes are in bytes. Each field is an attribute (``rss``, ``pss``, ..., docs/fields.md), None
    where the kernel did not print it; ``mapping["pss"]`` and ``mapping["Pss"]`` give the same,
    fields of newer kernels included.

    A Mapping follows the mapping protocol: ``dict(mapping) == mapping.as_dict()``.

    Source: proc_pid_maps(5), proc_pid_smaps(5).
    """

    __slots__ = ("_build_id", "_places", "_row")

    _known = _EVERY_FIELD
    _derived = (*_HEAD, "extra", "uss", "rss_swap")

    if TYPE_CHECKING:  # typing.get_type_hints() could not resolve private names
        _row: Row | RowHead
        _places: dict[str, int]
        _build_id: bytes

    if TYPE_CHECKING:  # add_fields() below makes them
        kernel_page_size: int | None
        mmu_page_size: int | None
        thp_eligible: int | None
        protection_key: int | None

    def __init__(self, row: Row | RowHead, places: dict[str, int]) -> None:
        set_ = object.__setattr__
        set_(self, "_row", row)
        set_(self, "_places", places)

    def __reduce__(self) -> tuple[Callable[..., Mapping], tuple[Any, ...]]:
        if self.build_id is not None:
            return found_mapping, (self._row, self._build_id)
        return Mapping, (self._row, self._places)

    def _value(self, label: str) -> int | None:
        place = self._places.get(label)
        # The place is a field's: at least FIRST_FIELD.
        return None if place is None else self._row[place]  # type: ignore[return-value]

    def _fields(self) -> Fields:
        return fields_of(self._places)

    @property
    def start(self) -> int:
        """The first address."""
        return self._row[0]

    @property
    def end(self) -> int:
        """The address after the last."""
        return self._row[1]

    @property
    def size(self) -> int | None:
        """End - start; None for a rollup, which covers a range with gaps.

        ``size_printed`` is the value of the kernel's ``Size:`` line.
        """
        row = self._row
        return None if row[6] == ROLLUP and is_rollup(row) else row[1] - row[0]

    @property
    def size_printed(self) -> int | None:
        """The ``Size:`` line; it lacks the guard page of stacks on 2.6.36 to 4.11."""
        return self._value("Size")

    @property
    def perms(self) -> str:
        """The permissions as the kernel writes them: ``r-xp``.

        The ``S`` of kernels without an MMU is ``s`` here; ``r-x-`` comes from early WSL1, which
        does not report whether a mapping is shared.
        """
        return PERMS[self._row[4]]

    @property
    def offset(self) -> int:
        """The offset of the mapping in its file, in bytes."""
        return self._row[2]

    @property
    def dev(self) -> str:
        """The device's major:minor in hex, as the kernel writes it: ``fd:01``."""
        return self._row[5].decode("ascii")

    @property
    def st_dev(self) -> int:
        """The device as ``os.stat(...).st_dev`` gives it (btrfs differs: docs/fields.md)."""
        # makedev(3); os.makedev() refuses numbers that do not fit an int, but a text may have one.
        major, minor = (int(number, 16) for number in self._row[5].split(b":"))
        high = (major & ~0xFFF) << 32 | (minor & ~0xFF) << 12
        return high | (major & 0xFFF) << 8 | minor & 0xFF

    @property
    def inode(self) -> int:
        """The file's inode; 0 without a file."""
        return self._row[3]

    @property
    def raw_path(self) -> bytes:
        """The kernel's name of the mapping, byte for byte; empty if it has none."""
        return self._row[6]

    @property
    def path(self) -> str:
        """``raw_path`` decoded by os.fsdecode() and not escaped: escape it for a terminal."""
        return os.fsdecode(self._row[6])

    @property
    def filename(self) -> str:
        r"""``path`` with ``\012`` undone and " (deleted)" removed.

        A file name that contains these itself cannot be recognized: the kernel only escapes the
        newline.
        """
        return os.fsdecode(file_name(self._row[6]))

    @property
    def deleted(self) -> bool:
        """Whether the file has been removed; False for anything but a file (see ``kind``)."""
        return is_deleted(self._row[6], self.kind)

    @property
    def kind(self) -> str:
        """One of hugetlb heap stack anon_named shmem special anon device file."""
        flags = self._row[7]
        hugetlb = flags is not None and b"ht" in flags.split()
        _, _, _, _, perms, dev, name, *_ = self._row
        return kind_of(name, bool(perms & SHARED), hugetlb, is_unnamed_device(dev))

    @property
    def label(self) -> str:
        """The purpose of named memory; the path of a file: docs/fields.md."""
        from fastsmaps._model.labels import label_of

        return label_of(self._row[6], self.kind)

    @property
    def build_id(self) -> str | None:
        """The build ID of the file in hex, as debuginfod takes it; None if it was not asked for.

        Only find(build_id=True) asks for it. Other values decide whether mappings are equal.
        """
        build_id = getattr(self, "_build_id", None)
        return None if build_id is None else build_id.hex()

    @property
    def vm_flags(self) -> tuple[str, ...] | None:
        """The codes of VmFlags; None if there is no such line, () if it is empty."""
        flags = self._row[7]
        return None if flags is None else tuple(map(os.fsdecode, flags.split()))

    @property
    def extra(self) -> dict[str, str]:
        """The fields with a text as value, by the kernel's label."""
        return dict(self._row[8] or {})

    def as_dict(self) -> dict[str, Any]:
        """Return the record's values by Python's names: header, flags, fields.

        start, end, size, perms, offset, dev, inode, path, kind, deleted, vm_flags; then every
        number field that a record of the table has, None if this one lacks it, with ``Size:`` as
        size_printed; last ``extra``. A field with a name that has another meaning keeps the
        kernel's spelling. The attributes raw_path, filename, label, st_dev, build_id, uss, rss_swap
        and the fields that no record has are left out.
        """
        keys, names = layout_of(self._places)
        result: dict[str, Any] = keys.copy()
        result.update(zip(names, self._row[FIRST_FIELD:], strict=True))
        put_head(result, self._row[:9])
        return result

    def _identity(self) -> tuple[Any, ...]:
        # Equal records may come from tables with columns in another order, or with further columns
        # (None here), and from texts with other blanks between the flags.
        fields = ((label, self._row[place]) for label, place in self._places.items())
        present = frozenset(field for field in fields if field[1] is not None)
        extra = frozenset((self._row[8] or {}).items())
        return self._row[:7], self.vm_flags, extra, present

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((self._row[:7], self.vm_flags))

    def __repr__(self) -> str:
        path = f" {self.path!r}" if self._row[6] else ""
        name = "size" if self.pss is None else "pss"
        value = f"{name}={human(self[name])}"
        return f"<Mapping {self.start:08x}-{self.end:08x} {self.perms} {self.kind}{path} {value}>"


def found_mapping(row: RowHead, build_id: bytes | None) -> Mapping:
    """Return a mapping without fields, as a backend's find() gives it."""
    mapping = _new(Mapping)
    _set_row(mapping, row)
    _set_places(mapping, _NO_PLACES)
    if build_id is not None:
        object.__setattr__(mapping, "_build_id", build_id)
    return mapping


# In half the time of Mapping(), as find() is called for every address of a profile.
_new = object.__new__
_set_row = Mapping.__dict__["_row"].__set__
_set_places = Mapping.__dict__["_places"].__set__
_NO_PLACES: dict[str, int] = {}


add_fields(Mapping, (label for label in NAMES if label != "Size"))
