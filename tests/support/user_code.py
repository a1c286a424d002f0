"""Code as users write it: checked by `mypy --strict`, so that the published types are tested."""

from __future__ import annotations

import io

import fastsmaps


def read_values(pid: int) -> tuple[int, int | None, str]:
    totals: fastsmaps.Totals = fastsmaps.totals(pid)
    pss: int | None = totals.pss
    new_field: int | None = totals["NewField"]
    both: fastsmaps.Totals = sum([totals, totals], totals)
    change: fastsmaps.Change = both - totals
    return pss or 0, change.rss or new_field, totals.source


def table(pid: int) -> list[str]:
    mappings: fastsmaps.Mappings = fastsmaps.mappings(pid, sizes=True, procfs="/proc")
    column: memoryview = mappings.column("pss")
    total: int = sum(value for value in column if value != fastsmaps.ABSENT)
    first: fastsmaps.Mapping = mappings[0]
    part: fastsmaps.Mappings = mappings[1:]
    same: fastsmaps.Mapping | None = part.find(first.start)
    groups: dict[str, fastsmaps.Group] = mappings.group_by("kind")
    names = [f"{kind} {group.totals.pss} {group.count}" for kind, group in groups.items()]
    flags: tuple[str, ...] | None = first.vm_flags
    return [*names, first.path, first.perms, str(total), str(same), str(flags)]


def texts() -> int:
    saved: fastsmaps.Mappings = fastsmaps.load(io.BytesIO(b""))
    return len(fastsmaps.parse(b"")) + len(fastsmaps.parse(bytearray())) + len(saved)


def process(pid: int) -> str:
    try:
        with fastsmaps.Process(pid) as process:
            info: fastsmaps.Info = process.info(heap=True)
            return f"{info.comm} {process.totals().uss} {len(process.mappings())} {info.heap}"
    except fastsmaps.AccessDenied as error:
        return f"{error.pid} {error.path} {error.errno}"
    except (fastsmaps.ProcessGone, fastsmaps.NoMemoryMap, fastsmaps.ReadError) as error:
        return str(error)
    except fastsmaps.ParseError as error:
        return f"{error.offset} {error.line_number} {error.line!r}"
