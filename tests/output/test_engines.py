"""A data set of `collect` in engines that are rarely installed: Spark (with Java), ClickHouse."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fastsmaps._output.dataset import DataSet
from fastsmaps._output.stored import rows_table
from fastsmaps._output.stores import LocalStore

SQL = """
    SELECT host, sum(pss), min(rss), count(cmdline), max(extra_fields['new_field'])
    FROM {} GROUP BY host ORDER BY host
"""
EXPECTED = [("a", 30, 5, 0, 7), ("b", 30, 5, 0, 7)]


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    for host in ("a", "b"):
        data = DataSet(LocalStore(str(tmp_path / "fleet")), host)
        rows = [
            {"host": host, "pid": pid, "pss": 10, "rss": 5, "new_field": 7} for pid in (1, 2, 3)
        ]
        table = rows_table("processes", rows).replace_schema_metadata(None)
        data.add("2026-11-28T03Z", [table])
        list(data.compact("2026-11-29"))
    return tmp_path / "fleet"


@pytest.mark.slow
def test_spark(fleet: Path) -> None:
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    spark: Any = builder.getOrCreate()
    try:
        frame = spark.read.option("mergeSchema", "true").parquet(str(fleet))
        types = dict(frame.dtypes)
        assert (types["pss"], types["taken_at"], types["date"]) == ("bigint", "timestamp", "date")
        assert not [name for name, kind in types.items() if kind.startswith("decimal")]
        frame.createOrReplaceTempView("processes")
        assert [tuple(row) for row in spark.sql(SQL.format("processes")).collect()] == EXPECTED
    finally:
        spark.stop()


@pytest.mark.slow
def test_clickhouse(fleet: Path) -> None:
    chdb = pytest.importorskip("chdb", reason="chdb is not installed")
    table = f"file('{fleet}/*/*/*.parquet', Parquet)"
    count = SQL.replace("count(cmdline)", "countIf(notEmpty(cmdline))").format(table)
    for settings in ("", " SETTINGS schema_inference_mode = 'union'"):
        lines = str(chdb.query(count + settings, "TSV")).splitlines()
        assert [line.split("\t") for line in lines] == [[*map(str, row)] for row in EXPECTED]
