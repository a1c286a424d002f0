"""What fastsmaps watch ends with: its report, and the files that were asked for."""

from __future__ import annotations

import contextlib
import sys

import fastsmaps
from fastsmaps._fields import ABSENT
from fastsmaps._model.sizes import human
from fastsmaps._output.display import escaped, kib
from fastsmaps._output.files import atomic_file
from fastsmaps.cli.options import cannot_write
from fastsmaps.cli.output import MAX_SHOWN, plain_lines
from fastsmaps.cli.plot_option import save_plot
from fastsmaps.cli.records_output import DEFAULT_SIZES, NO_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Any

    from fastsmaps._model.samples import Samples
    from fastsmaps._model.totals import Change


class Ended:
    """What became of it: its command line, and of a command how it ended.

    ``largest`` is ru_maxrss, ``failure`` what ended the watch early; None where there is none.
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


def write(args: argparse.Namespace, watch: fastsmaps.Watch, ended: Ended) -> None:
    """The files, and the report: of a command to standard error, unless a file was named."""
    samples = watch.samples
    if args.csv:
        with _told(args.csv):
            _write_csv(samples, args.csv)
    if args.parquet:
        import pyarrow

        from fastsmaps.parquet import write_parquet

        with _told(args.parquet):
            write_parquet(pyarrow.table(samples), args.parquet)
    if args.plot:
        from fastsmaps import plot

        save_plot(plot.samples(samples, title=f"{ended.name} (process {watch.pid})"), args.plot)
    text = (_json if args.json else _report)(args, watch, samples, ended)
    if args.output:
        with _told(args.output), atomic_file(args.output) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
    elif ended.exit_code is None:
        sys.stdout.write(text)
    elif sys.stderr is not None:
        with contextlib.suppress(OSError):  # whoever does not read it wants the status still
            print(text, end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from None


def _write_csv(samples: Samples, path: str) -> None:
    import csv
    import io

    with atomic_file(path) as file:
        text = io.TextIOWrapper(file, "ascii", "backslashreplace", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(samples.names)
        # Not sample by sample: the name of a field depends on what others there are.
        columns = [
            [None if value == ABSENT else value for value in samples.column(name)]
            for name in samples.names
        ]
        writer.writerows(zip(*columns, strict=True))
        text.detach()


# ---- for programs


def _json(args: argparse.Namespace, watch: fastsmaps.Watch, samples: Samples, ended: Ended) -> str:
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
                "ru_maxrss": ended.largest,
                "start": samples[0].as_dict() if len(samples) else None,
                "end": samples[-1].as_dict() if len(samples) else None,
                "peaks": {name: sample.as_dict() for name, sample in watch.peaks.items()},
                "growth": None
                if growth is None
                else [_change(change) for change in growth[: args.limit]],
            }
        )
        + "\n"
    )


def _change(change: Change) -> dict[str, Any]:
    head = {"path": change.key, "old": change.old.pss, "new": change.new.pss}
    return {**head, **change.as_dict()}


# ---- for people


def _report(
    args: argparse.Namespace, watch: fastsmaps.Watch, samples: Samples, ended: Ended
) -> str:
    name = ended.name if len(ended.name) <= MAX_SHOWN else f"{ended.name[:MAX_SHOWN]}..."
    lines = [f"{name} (process {watch.pid}): {_end(watch, ended)}"]
    if len(samples):
        lines += [_looks(watch, samples), "", *_figures(args, watch, samples, ended)]
        lines += _growth(args, watch, samples)
    else:
        lines.append("it ended before the first sample")
    return "".join(f"{escaped(line)}\n" for line in lines)


def _end(watch: fastsmaps.Watch, ended: Ended) -> str:
    after = f"after {watch.duration:.1f} s"
    if ended.exit_code is not None:
        if ended.exit_code >= 0:
            return f"exit status {ended.exit_code} {after}"
        return f"ended by signal {-ended.exit_code} {after}"
    if watch.outcome in ("gone", "zombie"):
        return f"ended {after}"
    return f"reading failed {after}" if ended.failure else f"watched for {watch.duration:.1f} s"


def _looks(watch: fastsmaps.Watch, samples: Samples) -> str:
    text = f"{watch.count} samples, one every {watch.interval:g} s"
    if watch.skipped:
        text += f", {watch.skipped} skipped: samples take too long for the interval or for --budget"
    if watch.tree:
        text += f"; up to {max(samples.column('processes'))} processes"
        if unread := max(samples.column("unread")):
            text += f", up to {unread} of them unread"
    return text


def _figures(
    args: argparse.Namespace, watch: fastsmaps.Watch, samples: Samples, ended: Ended
) -> list[str]:
    unit = human if args.human else kib
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
    head = ["SIZE" if args.human else "KiB", "START", "PEAK", "AT", "END"]
    if watch.tree:
        # Figures of one process: not beside those of a tree.
        lines = plain_lines(head, rows, head[:1], None)
        if ended.largest is not None:
            suffix = "" if args.human else " KiB"
            lines.append(f"largest Rss of one process (ru_maxrss): {unit(ended.largest)}{suffix}")
        return lines
    # By the kernel's own account, which misses nothing, and has no time.
    rows.append(["VmHWM", unit(first.peak_rss), unit(watch.peak_rss), "", unit(last.peak_rss)])
    if ended.largest is not None:
        rows.append(["ru_maxrss", "", unit(ended.largest), "", ""])
    return plain_lines(head, rows, head[:1], None)


def _growth(args: argparse.Namespace, watch: fastsmaps.Watch, samples: Samples) -> list[str]:
    """What grew most; until when, where that is not the end."""
    unit = human if args.human else kib
    grown = [change for change in watch.growth or () if (change.pss or change.size or 0) > 0]
    if not grown or watch.after is None or watch.after.taken_at is None:
        return []
    until = watch.after.taken_at - samples[0].time
    rows = [
        [
            *(unit(change[name]) for name in ("pss", "uss")),
            *(unit(side.pss) for side in (change.old, change.new)),
            str(change.key) or NO_NAME,
        ]
        for change in grown[: args.limit]
    ]
    head = ["PSS", "USS", "OLD", "NEW", "PATH"]
    which = f"process {watch.pid} alone grew" if watch.tree else "grew"
    return ["", f"{which} most, in {until:.1f} s:", *plain_lines(head, rows, head[4:], None)]
