"""The check of a real GPU runs on the device that computes nothing, in the stages that compare no numbers."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def check(built: dict[str, str], out: Path, *stages: str) -> str:
    """Runs stages of the check, which must pass, and returns their findings."""
    run: list[str | Path] = [ROOT / "tests/fake_cuda/run", sys.executable, "-m", "benchmarks.gpu"]
    environment = {**built, "FAKECUDA_READS": "0"}
    done = subprocess.run(
        [*run, "--out", out, "--patience", "10", *stages], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return (out / "gpu_check.md").read_text()


def test_the_stages_that_compare_no_numbers_pass(built, tmp_path):
    found = check(built, tmp_path, "environment", "waits", "failures")
    assert "0 failed" in found
    assert '"name": "Fake GPU"' in found


def test_jobs_take_the_memory_that_was_planned(built, tmp_path):
    assert "0 failed" in check(built, tmp_path, "memory")


def test_every_step_is_timed_without_and_with_a_graph(built, tmp_path):
    """The fake device's times mean nothing, so that the ratio to an ordinary script fails."""
    command: list[str | Path] = [ROOT / "tests/fake_cuda/run", sys.executable, "-m", "benchmarks.gpu", "timing"]
    environment = {**built, "FAKECUDA_READS": "0"}
    subprocess.run(
        [*command, "--out", tmp_path, "--patience", "10"], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    found = (tmp_path / "gpu_check.md").read_text()
    failed = [line for line in found.splitlines() if line.startswith("* FAIL")]
    assert [line.split(" {")[0] for line in failed] in ([], ["* FAIL a step takes a fifth of an ordinary script's"])
    rows = [line.split("|") for line in found.splitlines() if line.startswith(("| vgg19-slim |", "| vgg19-full |"))]
    assert len(rows) == 14
    assert (
        "| model | side | optimizer | eager ms | eager host ms | graph ms | graph host ms | convolutions ms |" in found
    )
    assert len([line for line in found.splitlines() if line.startswith(("| 1 |", "| 16 |"))]) == 2


def test_a_stage_that_fails_is_told(built, tmp_path):
    """Without a GPU every stage fails, and the check says so."""
    command = [sys.executable, "-m", "benchmarks.gpu", "waits", "--out", str(tmp_path)]
    environment = {**built, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "FAIL" in done.stdout
