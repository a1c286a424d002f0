"""An independent, slow parser of maps, smaps and smaps_rollup, and its tables for tests/data.

It shares no code with fastsmaps, so a mistake must be made twice to go unnoticed. It parses what
kernels write, not what people paste of it. Run as a script, it writes the table of expected values
next to every text of the corpus (tests/data/README.md).
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
HEADER = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][sp]) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) ([0-9]+) *(.*)"
)
FIELD = re.compile(rb"([A-Z][^:]*):[ \t]*(.*)")
NUMBER = re.compile(r"([0-9]+)( kB)?")
COLUMNS = ["start", "end", "perms", "offset", "dev", "inode"]
COLUMNS += ["name", "kind", "deleted", "vm_flags", "extra"]


@dataclass
class Record:
    """One mapping. Sizes are in bytes; a field that the text lacks is in neither dict."""

    start: int
    end: int
    perms: str
    offset: int
    dev: str
    inode: int
    name: bytes
    kind: str = ""
    deleted: bool = False
    vm_flags: list[str] | None = None
    extra: dict[str, str] = field(default_factory=dict)
    fields: dict[str, int] = field(default_factory=dict)


def read(text: bytes) -> list[Record]:
    """Parse all records of a maps, smaps or smaps_rollup text, in the file's order."""
    records: list[Record] = []
    for line in text.removesuffix(b"\n").split(b"\n") if text else []:
        if header := HEADER.fullmatch(line):
            start, end, perms, offset, dev, inode, name = header.groups()
            numbers = int(start, 16), int(end, 16), perms.decode(), int(offset, 16)
            records.append(Record(*numbers, dev.decode(), int(inode), name))
        elif labelled := FIELD.fullmatch(line):
            add_field(records[-1], labelled[1].decode(), labelled[2])
        else:
            raise ValueError(f"neither header nor field: {line!r}")
    for record in records:  # after all lines: a record's name and flags can follow its header
        record.kind = kind_of(record.name, record.perms, record.vm_flags or [], record.dev)
        record.deleted = record.kind == "file" and record.name.endswith(b" (deleted)")
    return records


def add_field(record: Record, label: str, value: bytes) -> None:
    """Add one `Label: value` line. Android's `Name:` is only a name, never `extra`."""
    text = value.decode("utf-8", "surrogateescape").strip(" ")
    if label in record.fields or label in record.extra:
        raise ValueError(f"{label} twice in one record")
    if label == "Name":
        record.name = record.name or value
    elif label == "VmFlags":
        record.vm_flags = text.split()
    elif number := NUMBER.fullmatch(text):
        record.fields[label] = int(number[1]) * (1024 if number[2] else 1)
    else:
        record.extra[label] = text


def kind_of(name: bytes, perms: str, vm_flags: list[str], dev: str = "fd:01") -> str:
    """Classify a mapping; the first rule that matches decides, so their order matters."""
    special = name.startswith(b"[") and name.endswith(b"]")
    zero = name in (b"/dev/zero", b"/dev/zero (deleted)")
    if "ht" in vm_flags or name in (b"/anon_hugepage", b"/anon_hugepage (deleted)"):
        return "hugetlb"
    if name == b"[heap]":
        return "heap"
    if name == b"[stack]" or (special and name.startswith(b"[stack:")):
        return "stack"
    if special and name.startswith(b"[anon:"):
        return "anon_named"
    if (special and name.startswith(b"[anon_shmem:")) or (zero and perms.endswith("s")):
        return "shmem"
    if name.startswith((b"/memfd:", b"/SYSV", b"/dev/shm/", b"/dev/ashmem/")):
        return "shmem"
    if special:
        return "special"
    if name == b"" or zero:
        return "anon"
    if name.startswith((b"/dev/", b"/dmabuf:", b"anon_inode:", b"socket:")):
        return "device"
    no_device = int(dev.split(":")[0], 16) == 0
    if no_device and perms.endswith("s") and re.fullmatch(rb"/[^/]* \(deleted\)", name, re.DOTALL):
        return "shmem"
    return "file"


def write_table(records: list[Record]) -> str:
    """Format records as tab-separated ASCII text; data/README.md describes the cells."""
    labels = list(dict.fromkeys(label for record in records for label in record.fields))
    rows = [[*COLUMNS, *labels]]
    for r in records:
        # "-" stands for no name, so a name "-" is written as \x2d, which reads back as that byte.
        name = {b"": "-", b"-": "\\x2d"}.get(r.name) or escape(r.name)
        row = [str(r.start), str(r.end), r.perms, str(r.offset), r.dev, str(r.inode), name, r.kind]
        row.append("1" if r.deleted else "0")
        row.append("-" if r.vm_flags is None else " ".join(r.vm_flags))
        row.append(json.dumps(r.extra) if r.extra else "-")
        rows.append([*row, *(str(r.fields.get(label, "-")) for label in labels)])
    return "".join("\t".join(row) + "\n" for row in rows)


def read_table(table: str) -> list[Record]:
    """Read the records that write_table() wrote."""
    header, *rows = (line.split("\t") for line in table.removesuffix("\n").split("\n"))
    records = []
    for start, end, perms, offset, dev, inode, name, kind, deleted, flags, extra, *cells in rows:
        raw = b"" if name == "-" else unescape(name)
        record = Record(int(start), int(end), perms, int(offset), dev, int(inode), raw, kind)
        record.deleted = deleted == "1"
        record.vm_flags = None if flags == "-" else flags.split()
        record.extra = {} if extra == "-" else json.loads(extra)
        pairs = zip(header[len(COLUMNS) :], cells, strict=True)
        record.fields = {label: int(cell) for label, cell in pairs if cell != "-"}
        records.append(record)
    return records


def escape(name: bytes) -> str:
    """Escape bytes as printable ASCII, in the notation of a Python string."""
    return name.decode("latin-1").encode("unicode_escape").decode("ascii")


def unescape(text: str) -> bytes:
    """Undo escape()."""
    return text.encode("ascii").decode("unicode_escape").encode("latin-1")


def texts() -> list[Path]:
    """List every maps, smaps and smaps_rollup text of the corpus, in a fixed order."""
    return sorted(p for p in DATA.rglob("*") if p.name in ("maps", "smaps", "smaps_rollup"))


def table_path(text: Path) -> Path:
    """Path of a text's table; texts in captures/*/child have none."""
    return text.with_name(text.name + ".expected.tsv")


if __name__ == "__main__":
    for path in texts():
        if path.parent.name != "child":
            table_path(path).write_text(write_table(read(path.read_bytes())), encoding="ascii")
