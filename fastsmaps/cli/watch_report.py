"""The results of fastsmaps watch: the report and the requested files."""

from __future__ import annotations

import contextlib
import os
import sys

import fastsmaps
from fastsmaps._fields import ABSENT
from fastsmaps._model.sizes import change as signed
from fastsmaps._model.sizes import human
from fastsmaps._output.display import cut_path, escaped, kib
from fastsmaps._output.files import atomic_file
from fastsmaps.cli.change_table import (
    FEWER,
    MAPPING_NAMES,
    change_columns,
    duration,
    mapping_keys,
    mapping_name,
    record_of,
    total_record,
)
from fastsmaps.cli.options import write_errors
from fastsmaps.cli.output import MAX_COMMAND_LENGTH, forget_written, plain_lines, wrapped
from fastsmaps.cli.plot_option import command_line, save_page
from fastsmaps.cli.records_output import DEFAULT_SIZES

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from fastsmaps._model.samples import Samples

# Cells of a name, however narrow the terminal is.
_MIN_NAME = 20


class WatchEnd:
    """The command line of the process, and how a command ended.

    ``largest`` is ru_maxrss, ``failure`` the error that ended the watch early; None without one.
    """

    def __init__(
        self,
        name: str,
        *,
        exit_code: int | None = None,
        largest: int | None = None,
        failure: Exception | None = None,
    ) -> None:
        self.name = name
        self.exit_code = exit_code
        self.largest = largest
        self.failure = failure


def write(args: argparse.Namespace, watch: fastsmaps.Watch, ended: WatchEnd) -> None:
    """Write the files and the report; a command's report goes to stderr, or to --output."""
    samples = watch.samples
    if args.csv:
        with write_errors(args.csv):
            _write_csv(samples, args.csv)
    if args.parquet:
        from fastsmaps.parquet import write_parquet

        with write_errors(args.parquet):
            write_parquet(samples, args.parquet)
    if args.plot:
        from fastsmaps import plot

        title = f"{ended.name} (process {watch.pid})"
        host = os.uname().nodename
        # The mappings are those of the first process: not what grew in a tree.
        growth = None if watch.tree else watch.growth
        page = plot.samples(samples, growth=growth, title=title, command=command_line(), host=host)
        save_page(page, args.plot)
    text = (_json if args.json else _report)(args, watch, samples, ended)
    if args.output:
        with write_errors(args.output), atomic_file(args.output) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
        if ended.exit_code is not None:
            forget_written()  # with --output standard error is the command's alone
    elif ended.exit_code is None:
        sys.stdout.write(text)
    elif sys.stderr is not None:
        with contextlib.suppress(OSError):  # nobody reads it; the exit status still counts
            print(text, end="", file=sys.stderr, flush=True)


def _write_csv(samples: Samples, path: str) -> None:
    import csv
    import io

    with atomic_file(path) as file:
        text = io.TextIOWrapper(file, "ascii", "backslashreplace", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(samples.names)
        # By column, not by sample: the name of a field depends on the other fields.
        columns = [
            [None if value == ABSENT else value for value in samples.column(name)]
            for name in samples.names
        ]
        writer.writerows(zip(*columns, strict=True))
        text.detach()


# ---- for programs


def _json(
    args: argparse.Namespace, watch: fastsmaps.Watch, samples: Samples, ended: WatchEnd
) -> str:
    import json

    growth = watch.growth
    return (
        json.dumps(
            {
                "pid": watch.pid,
                "command": ended.name,
                "outcome": watch.outcome,
                "error": None if ended.failure is None else str(ended.failure),
                "exit_code": ended.exit_code,
                "duration": watch.duration,
                "interval": watch.interval,
                "samples": watch.count,
                "skipped": watch.skipped,
                "peak_rss": watch.peak_rss,
                "root_peak_rss": watch.root_peak_rss,
                "ru_maxrss": ended.largest,
                "start": samples[0].as_dict() if len(samples) else None,
                "end": samples[-1].as_dict() if len(samples) else None,
                "peaks": {name: sample.as_dict() for name, sample in watch.peaks.items()},
                "growth": None
                if growth is None
                else [record_of(change, mapping_keys(change)) for change in growth[: args.limit]],
            }
        )
        + "\n"
    )


# ---- for people


def _report(
    args: argparse.Namespace, watch: fastsmaps.Watch, samples: Samples, ended: WatchEnd
) -> str:
    name = (
        ended.name
        if len(ended.name) <= MAX_COMMAND_LENGTH
        else f"{ended.name[:MAX_COMMAND_LENGTH]}..."
    )
    width = _terminal_width(args, ended)
    title = escaped(f"{name} (process {watch.pid}): {_end(watch, ended)}")
    lines = wrapped(title, width).splitlines()
    if len(samples):
        lines += [
            *wrapped(_samples_line(watch, samples), width).splitlines(),
            "",
            *_sizes_table(args, watch, samples, ended),
        ]
        lines += _growth(args, watch, ended)
    else:
        lines.append("it ended before the first sample")
    return "".join(f"{escaped(line)}\n" for line in lines)


def _size_format(args: argparse.Namespace, ended: WatchEnd) -> Callable[[int | None], str]:
    """Return the function that formats sizes: with units on a terminal, elsewhere KiB."""
    is_terminal = _terminal_width(args, ended) is not None
    return human if args.human or (is_terminal and not args.kib) else kib


def _terminal_width(args: argparse.Namespace, ended: WatchEnd) -> int | None:
    """Return the width of the terminal that gets the report; None if it goes elsewhere."""
    stream = sys.stdout if ended.exit_code is None else sys.stderr
    if args.output or stream is None or not stream.isatty():
        return None
    with contextlib.suppress(OSError):
        return os.get_terminal_size(stream.fileno()).columns or 80
    return 80


def _end(watch: fastsmaps.Watch, ended: WatchEnd) -> str:
    after = f"after {watch.duration:.1f} s"
    if ended.exit_code is not None:
        if ended.exit_code >= 0:
            return f"exit status {ended.exit_code} {after}"
        return f"ended by signal {-ended.exit_code} {after}"
    if watch.outcome in ("gone", "zombie"):
        return f"ended {after}"
    return f"reading failed {after}" if ended.failure else f"watched for {watch.duration:.1f} s"


def _samples_line(watch: fastsmaps.Watch, samples: Samples) -> str:
    noun = "sample" if watch.count == 1 else "samples"
    text = f"{watch.count} {noun}, one every {watch.interval:g} s"
    if watch.skipped:
        text += f", {watch.skipped} skipped: samples take too long for the interval or for --budget"
    if watch.tree:
        text += f"; up to {max(samples.column('processes'))} processes"
        if unread := max(samples.column("unread")):
            text += f", up to {unread} of them unread"
    return text


def _sizes_table(
    args: argparse.Namespace, watch: fastsmaps.Watch, samples: Samples, ended: WatchEnd
) -> list[str]:
    unit = _size_format(args, ended)
    is_kib = unit is kib
    first, last, peaks = samples[0], samples[-1], watch.peaks
    rows = [
        [
            name,
            unit(first.totals[name]),
            unit(peaks[name].totals[name]),
            f"{peaks[name].elapsed:.1f} s",
            unit(last.totals[name]),
        ]
        for name in DEFAULT_SIZES
        if name in peaks
    ]
    head = ["KiB" if is_kib else "SIZE", "START", "PEAK", "AT", "END"]
    if watch.tree:
        # VmHWM and ru_maxrss count one process: keep them out of a tree's table.
        lines = [f"process {watch.pid} and its descendants together:"]
        lines += plain_lines(head, rows, head[:1], None)
        single = [
            (f"process {watch.pid} alone, largest Rss (VmHWM)", watch.root_peak_rss),
            ("largest single process, its largest Rss (ru_maxrss)", ended.largest),
        ]
        known = [(text, size) for text, size in single if size is not None]
        suffix = " KiB" if is_kib else ""
        return (
            lines + [""] * bool(known) + [f"{text}: {unit(size)}{suffix}" for text, size in known]
        )
    # The kernel's own peak misses nothing, but has no time.
    rows.append(["VmHWM", unit(first.peak_rss), unit(watch.peak_rss), "", unit(last.peak_rss)])
    if ended.largest is not None:
        rows.append(["ru_maxrss", "", unit(ended.largest), "", ""])
    return plain_lines(head, rows, head[:1], None)


def _growth(args: argparse.Namespace, watch: fastsmaps.Watch, ended: WatchEnd) -> list[str]:
    """Return the lines on what grew most, in what time, and what others stopped sharing."""
    growth = watch.growth
    if growth is None:
        return []
    grown = growth.grown
    seconds = growth.total.seconds
    what = f"process {watch.pid} alone" if watch.tree else ""
    time = "" if seconds is None else f"in {duration(seconds)}"
    lines = ["", f"{' '.join(filter(None, (what, 'did not grow', time)))}"]
    if grown:
        records = [record_of(change, mapping_keys(change)) for change in grown[: args.limit]]
        whole = total_record(growth.total, dict.fromkeys(MAPPING_NAMES, ""))
        unit, width = _size_format(args, ended), _terminal_width(args, ended)
        columns = change_columns([*records, whole], unit, width)
        rows = [
            [*(column.cell(record) for column in columns), escaped(name)]
            for record, name in zip(
                (*records, whole), (*map(mapping_name, records), "total"), strict=True
            )
        ]
        head = [*(column.head for column in columns), "PATH"]
        left = [*(column.head for column in columns if column.left), "PATH"]
        if width is not None:
            used = sum(
                max(map(len, column)) + 2 for column in list(zip(head, *rows, strict=True))[:-1]
            )
            for row in rows:
                row[-1] = cut_path(row[-1], max(_MIN_NAME, width - used))
        title = ", ".join(filter(None, (f"{what} grew most".strip(), time)))
        lines = ["", f"{title}:", *plain_lines(head, rows, left, None)]
        if any(record["shared_with_fewer"] for record in records):
            lines += ["", FEWER]
    listed = {id(change) for change in grown}
    others = [c for c in growth if c.shared_with_fewer and id(c) not in listed]
    if others:
        pss = signed(sum(change.pss or 0 for change in others))
        lines += ["", f"not grown, but shared with fewer processes than before: {pss} of Pss"]
    return lines
