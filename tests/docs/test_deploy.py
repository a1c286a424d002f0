"""The files in deploy/, checked by promtool and systemd-analyze."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fastsmaps.prometheus import Collector
from support.metrics import promtool, small_host, sweep_metrics, write_maps, write_process

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    root = small_host(tmp_path / "host")
    write_process(root, 10, b"split", Pss_Anon=1, Pss_File=2, Pss_Shmem=3)
    write_maps(root, p7=3)
    (root / "meminfo").write_text("MemTotal: 9 kB\nMemFree: 9 kB\nAnonPages: 1 kB\nMapped: 1 kB\n")
    return root


def test_alert_rules_pass_promtool() -> None:
    promtool("check", "rules", "alerts.yml", where=DEPLOY / "prometheus")
    promtool("test", "rules", "alerts.test.yml", where=DEPLOY / "prometheus")


def names_in(expressions: str) -> set[str]:
    return set(re.findall(r"\bfastsmaps_[a-z_]+", expressions))


def exported_names(host: Path) -> set[str]:
    names = {name for name, _ in sweep_metrics(host, mappings=True).samples}
    with Collector(procfs=str(host)) as collector:  # all, also those that are not known here
        return names | {
            metric.name + "_total" * (metric.type == "counter") for metric in collector.describe()
        }


def test_alerts_use_exported_metrics(host: Path) -> None:
    lines = (DEPLOY / "prometheus/alerts.yml").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    assert names_in(text) <= exported_names(host)


def test_dashboard_queries_are_valid(host: Path, tmp_path: Path) -> None:
    """Its queries use exported metrics and pass promtool."""
    board = json.loads((DEPLOY / "grafana/fastsmaps.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) > 10
    assert names_in("\n".join(queries)) <= exported_names(host)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    names = {variable["name"] for variable in board["templating"]["list"]}
    assert {"instance", "by", "top"} <= names
    rules = []
    for i, query in enumerate(queries):
        for name, value in (("$__rate_interval", "5m"), ("$instance", ".+"), ("$by", "comm"),
                            ("$top", "20")):  # fmt: skip
            query = query.replace(name, value)
        assert "$" not in query
        rules.append({"record": f"query:{i}", "expr": query})
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))  # JSON is YAML
    promtool("check", "rules", str(file))


def test_systemd_units_are_valid(tmp_path: Path) -> None:
    """systemd-analyze accepts them; the program is replaced by one that is installed."""
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("no systemd-analyze (Debian's package systemd has it)")
    text = (DEPLOY / "systemd/fastsmaps-export.service").read_text()
    assert "/opt/fastsmaps/bin/fastsmaps export" in text
    unit = tmp_path / "fastsmaps-export.service"
    unit.write_text(text.replace("/opt/fastsmaps/bin/fastsmaps", shutil.which("true") or ""))
    port = shutil.copy(DEPLOY / "systemd/fastsmaps-export.socket", tmp_path)
    done = subprocess.run(
        [verify, "verify", unit, port], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
