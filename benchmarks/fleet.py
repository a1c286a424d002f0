"""The same query over many small files and over the compacted set, in each engine that is there.

``python fleet.py DIR [HOSTS [PROCESSES [HOURS]]]`` writes simulated files below DIR, one for each
host and hour (200 x 24 files of 500 processes by default), copies them, compacts the copy as
``fastsmaps collect`` does, and prints seconds and ratios. Every engine must give the same answer
for both. Each query runs three times; the least counts.
"""

from __future__ import annotations

import datetime
import importlib.util
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fastsmaps._output.dataset import DataSet
from fastsmaps._output.stored import rows_table
from fastsmaps._output.stores import LocalStore

_RUNS = 3
_SQL = "SELECT host, comm, count(*) AS n, sum(pss) AS pss FROM {} GROUP BY host, comm"
_DAY = datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC)


def write(root: Path, hosts: int, processes: int, hours: int) -> None:
    """Write one file for each host and hour."""
    rng = random.Random(1)  # noqa: S311 - the same files each time
    for number in range(hosts):
        name = f"host-{number:03}"
        data = DataSet(LocalStore(str(root)), name)
        rows = [
            {
                "host": name,
                "pid": 2 + i,
                "ppid": 1,
                "comm": f"worker-{rng.randrange(40)}",
                "user": f"user-{i % 9}",
                "uid": i % 9,
                "start_time": float(i),
                "cgroup": f"/system.slice/worker-{i % 40}.service",
                "outcome": "read",
                "age": 0.0,
                "estimated": False,
            }
            for i in range(processes)
        ]
        for hour in range(hours):
            for row in rows:
                rss = rng.randrange(1, 1 << 15) << 12
                row |= {"rss": rss, "pss": rss // 2, "uss": rss // 4, "swap": 0}
                row |= {"private_dirty": rss // 4, "private_clean": 0, "rss_swap": rss}
                row["taken_at"] = _DAY + datetime.timedelta(hours=hour)
            table = rows_table("processes", rows).replace_schema_metadata(None)
            data.add(f"2026-11-28T{hour:02}Z", [table])


def compact(root: Path) -> None:
    """Compact the files of every host."""
    names = {path.name.removeprefix("host=") for path in root.glob("date=*/host=*")}
    for name in sorted(names):
        for _ in DataSet(LocalStore(str(root)), name).compact("2026-11-29"):
            pass


def engines() -> dict[str, Callable[[Path], set[tuple[Any, ...]]]]:
    """Return a function for each engine that is installed."""
    found: dict[str, Callable[[Path], set[tuple[Any, ...]]]] = {}
    if importlib.util.find_spec("polars"):
        import polars

        def with_polars(root: Path) -> set[tuple[Any, ...]]:
            frame = polars.scan_parquet(f"{root}/**/*.parquet")
            groups = frame.group_by("host", "comm").agg(polars.len(), polars.sum("pss"))
            return {*groups.collect().cast({"host": polars.String}).rows()}

        found["polars"] = with_polars
    if importlib.util.find_spec("duckdb"):
        import duckdb

        found["DuckDB"] = lambda root: _rows(
            duckdb.connect().execute(_SQL.format(f"'{root}/**/*.parquet'")).fetchall()
        )
    if importlib.util.find_spec("pyarrow"):
        from pyarrow import dataset

        def with_pyarrow(root: Path) -> set[tuple[Any, ...]]:
            hive = dataset.HivePartitioning.discover(infer_dictionary=True)
            table = dataset.dataset(root, partitioning=hive).to_table(["host", "comm", "pss"])
            keys = table.unify_dictionaries().group_by(["host", "comm"], use_threads=False)
            return _rows(
                row.values()
                for row in keys.aggregate([([], "count_all"), ("pss", "sum")])
                .select(["host", "comm", "count_all", "pss_sum"])
                .to_pylist()
            )

        found["pyarrow"] = with_pyarrow
    if importlib.util.find_spec("chdb"):
        import chdb

        def with_clickhouse(root: Path) -> set[tuple[Any, ...]]:
            query = _SQL.format(f"file('{root}/*/*/*.parquet', Parquet)")
            lines = str(chdb.query(query, "TSV")).splitlines()
            return _rows((h, c, int(n), int(p)) for h, c, n, p in (x.split("\t") for x in lines))

        found["ClickHouse"] = with_clickhouse
    if importlib.util.find_spec("pyspark") and shutil.which("java"):
        from pyspark.sql import SparkSession

        spark = SparkSession.builder.master("local[2]").getOrCreate()

        def with_spark(root: Path) -> set[tuple[Any, ...]]:
            spark.read.parquet(str(root)).createOrReplaceTempView("t")
            return _rows(spark.sql(_SQL.format("t")).collect())

        found["Spark"] = with_spark
    return found


def _rows(rows: Iterable[Any]) -> set[tuple[Any, ...]]:
    return {(host, comm, int(count), int(pss)) for host, comm, count, pss in rows}


def main() -> None:
    """Write, compact and compare."""
    top = Path(sys.argv[1])
    hosts, processes, hours = (*map(int, sys.argv[2:]), *(200, 500, 24)[len(sys.argv) - 2 :])
    small, large = top / "small", top / "compacted"
    if not small.exists():
        write(small, hosts, processes, hours)
    if not large.exists():
        shutil.copytree(small, large)
        begun = time.process_time()
        compact(large)
        print(f"compacted in {time.process_time() - begun:.1f} s of CPU time")
    for name, root in (("small", small), ("compacted", large)):
        files = list(root.glob("*/*/*.parquet"))
        total = sum(file.stat().st_size for file in files)
        print(f"{name}: {len(files)} files, {total / 1e6:.1f} MB")
    for name, run in engines().items():
        times: dict[Path, float] = {}
        answers = []
        for root in (small, large) * _RUNS:
            begun = time.perf_counter()
            answers.append(run(root))
            times[root] = min(times.get(root, 1e9), time.perf_counter() - begun)
        assert all(answer == answers[0] for answer in answers), name
        ratio = times[small] / times[large]
        print(f"{name}: {times[small]:.2f} s, compacted {times[large]:.3f} s: {ratio:.1f} times")


if __name__ == "__main__":
    main()
