"""Checks and times every CUDA path: `python -m benchmarks.gpu [--out FOLDER] [STAGE ...]`. About 5 minutes on an H100.

Each stage runs in a process of its own, because a lost context ends the process's use of the GPU, and has a time limit.
The findings and the tables are printed, and written to gpu_check.md in the folder. The exit status is 1 if a check
failed. $GPU_CHECK_DEVICE names another device than cuda:0.
"""

import argparse
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

from .report import Finding, Report

# Time limits of the stages in seconds.
STAGES = {
    "environment": 40, "parity": 90, "waits": 40, "determinism": 60, "memory": 60, "timing": 110, "failures": 40,
    "server": 90,
}  # fmt: skip


def main() -> None:
    """Runs the stages, or one stage in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"some of: {', '.join(STAGES)}")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the results")
    parser.add_argument("--patience", type=float, default=1.0, help="factor of the time limits")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - set(STAGES):
        parser.error(f"no stage {', '.join(sorted(unknown))}; the stages are {', '.join(STAGES)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.here:
        _run(arguments.stages[0], arguments.out)
    reports = {
        stage: _report(stage, arguments.out, STAGES[stage] * arguments.patience) for stage in arguments.stages or STAGES
    }
    text = _rendered(reports)
    (arguments.out / "gpu_check.md").write_text(text)
    print(text)
    sys.exit(any(f.kind == "FAIL" for report in reports.values() for f in report.findings))


def _run(stage: str, out: Path) -> None:
    """Runs a stage, writes its report, and ends the process."""
    report = Report()
    with report.case(f"stage {stage}"):
        importlib.import_module(f"benchmarks.gpu.{stage}").check(report)
    (out / f"{stage}.json").write_text(report.to_json())
    # A lost context makes torch's cleanup fail.
    sys.stdout.flush()
    os._exit(0)


def _report(stage: str, out: Path, limit: float) -> Report:
    """Runs a stage in a process of its own, and returns its report."""
    begun, file = time.monotonic(), out / f"{stage}.json"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu", "--here", "--out", str(out), stage]
    try:
        subprocess.run(command, timeout=limit)
        found = Report.from_json(file.read_text()) if file.exists() else _failed(f"stage {stage} wrote no report")
    except subprocess.TimeoutExpired:
        found = _failed(f"stage {stage} took more than {limit:.0f} s")
    print(f"---- {stage}: {time.monotonic() - begun:.0f} s", flush=True)
    return found


def _failed(what: str) -> Report:
    return Report([Finding("FAIL", what, {})])


def _rendered(reports: dict[str, Report]) -> str:
    """Returns all findings and tables as Markdown."""
    findings = [finding for report in reports.values() for finding in report.findings]
    passed, failed = (sum(finding.kind == kind for finding in findings) for kind in ("PASS", "FAIL"))
    lines = ["# GPU check", "", f"{passed} checks passed, {failed} failed.", ""]
    lines += [f"* {finding}" for finding in findings if finding.kind != "PASS"]
    for report in reports.values():
        for what in dict.fromkeys(row["what"] for row in report.rows):
            rows = [{k: v for k, v in row.items() if k != "what"} for row in report.rows if row["what"] == what]
            columns = list(dict.fromkeys(key for row in rows for key in row))
            lines += [
                "",
                f"## {what.capitalize()}",
                "",
                "| " + " | ".join(columns) + " |",
                "|" + " --- |" * len(columns),
            ]
            lines += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
