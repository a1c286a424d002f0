"""Wrong arguments of plot, parquet and prometheus, which need extras."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from test_arguments import MAPPINGS, PATH, SAMPLES, SCAN, arguments_of, case, public_arguments

pytest.importorskip("prometheus_client")
pa = pytest.importorskip("pyarrow")
from fastsmaps import parquet, plot, prometheus  # noqa: E402 - they need the extras

with prometheus.Collector(max_rss=0) as COLLECTOR:
    COLLECTOR.wait()


def output_cases() -> list[Any]:
    collector, table_of, write = prometheus.Collector, parquet.table_of, parquet.write_parquet
    table, page = pa.table({"pid": [1]}), plot.mappings([])
    dicts, texts = "records must be a sequence of dicts", "must be an iterable of str"
    found = [
        case(plot.mappings, TypeError, "m must be an iterable of Mapping rows, got int 5", m=5),
        case(plot.mappings, TypeError, "each of m must be a Mapping, got int 5", m=[5]),
        case(plot.mappings, TypeError, "each of m must be a Mapping, got ProcessTotals", m=SCAN),
        case(plot.processes, TypeError, "scan must be a Scan, got Mappings", scan=MAPPINGS),
        case(plot.processes, TypeError, "by must be one or several of", scan=SCAN, by=5),
        case(plot.processes, ValueError, "by must be one or several of", scan=SCAN, by="path"),
        case(plot.processes, TypeError, "timeout must be a number", scan=SCAN, timeout=True),
        case(plot.processes, ValueError, "timeout must be at least 0", scan=SCAN, timeout=-1),
        case(plot.samples, TypeError, "samples must be Samples, got Scan", samples=SCAN),
        case(plot.samples, TypeError, "growth must be an iterable", samples=SAMPLES, growth=5),
        case(plot.samples, TypeError, "each of growth must be a", samples=SAMPLES, growth=[5]),
        case(plot.report, TypeError, "scan must be a Scan, got Mappings", scan=MAPPINGS),
        case(plot.report, TypeError, "timeout must be a number", scan=SCAN, timeout=True),
        case(plot.report, TypeError, "progress must be a function", scan=SCAN, progress=5),
        case(plot.save, TypeError, "page must be a Page, got dict", page={}, path="/"),
        case(plot.save, TypeError, "path must be a path, got int 5", page=page, path=5),
        case(plot.Page, TypeError, "html must be a str, got int 5", html=5, title=""),
        case(plot.Page, TypeError, "title must be a str, got int 5", html="", title=5),
        case(table_of, TypeError, f"{dicts}, got int 5", records=5, names=[]),
        case(table_of, TypeError, f"{dicts}, got list_iterator", records=iter([]), names=[]),
        case(table_of, TypeError, "each of records must be a dict", records=[5], names=[]),
        case(table_of, TypeError, "extra must be a dict", records=[{"extra": 5}], names=[]),
        case(table_of, TypeError, f"names {texts}, got str 'pid'", records=[], names="pid"),
        case(table_of, TypeError, "each of names must be a str", records=[], names=[5]),
        case(table_of, TypeError, f"texts {texts}, got int 5", records=[], names=[], texts=5),
        case(write, TypeError, "table must be a pyarrow.Table or a table", table=5, path="/"),
        case(write, TypeError, "path must be a path, got int 5", table=table, path=5),
        case(collector, TypeError, "by must be one or several of", by=5),
        case(collector, TypeError, "limit must be an int, got bool True", limit=True),
        case(collector, ValueError, "limit must be at least 1, got 0", limit=0),
        case(collector, TypeError, "interval must be a number, got str '1'", interval="1"),
        case(collector, ValueError, "interval must be above 0", interval=0),
        case(collector, TypeError, f"{PATH}, got int", procfs=5),
        case(collector, TypeError, "max_rss must be an int, got bool True", max_rss=True),
        case(collector, TypeError, "exclude must be a container of pids", exclude=5),
        case(collector, TypeError, "on_error must be a function or None", on_error=5),
        case(collector, TypeError, "cgroupfs must be", cgroupfs=5),
        case(collector, TypeError, "on_sweep must be a function or None", on_sweep=5),
        case(COLLECTOR.wait, TypeError, "timeout must be a number, got str '1'", timeout="1"),
        case(COLLECTOR.wait, ValueError, "timeout must be at least 0, got -1", timeout=-1),
    ]
    found += [
        case(collector, TypeError, "budget must be a number, got str '1'", budget="1"),
        case(collector, ValueError, "budget must be above 0 and at most 1, got 2", budget=2),
    ]
    for call, argument in (
        (plot.mappings, []),
        (plot.processes, SCAN),
        (plot.report, SCAN),
        (plot.samples, SAMPLES),
    ):
        first, *names = inspect.signature(call).parameters
        for name in (name for name in ("title", "command", "host") if name in names):
            text = f"{name} must be a str or None, got int 5"
            found.append(case(call, TypeError, text, **{first: argument, name: 5}))
    return found


CASES = output_cases()


@pytest.mark.parametrize(("call", "error", "text", "arguments"), CASES)
def test_wrong_argument_is_refused(
    call: Callable[..., Any], error: type[Exception], text: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(error, match=re.escape(text)) as caught:
        call(**arguments)
    assert type(caught.value) is error


def test_every_argument_has_a_case() -> None:
    everything = {
        name: public
        for module in (parquet, plot, prometheus)
        for name, public in vars(module).items()
        if getattr(public, "__module__", "") == module.__name__ and not name.startswith("_")
    }
    assert set(public_arguments(everything)) <= set(arguments_of(CASES))
