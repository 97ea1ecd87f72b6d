"""The packages of an image, by its device."""

import subprocess
import sys
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def requirements(*arguments: str) -> list[str]:
    """The lines that the program prints for the project."""
    command = [sys.executable, str(DEPLOY / "requirements.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=DEPLOY.parent)
    return done.stdout.splitlines()


def test_an_image_without_a_gpu_has_the_onnx_runtime_without_cuda():
    cpu, cuda = requirements("cpu", "server", "postgres"), requirements("cuda", "server", "postgres")
    assert [line for line in cpu if line.startswith("onnxruntime")] == ["onnxruntime>=1.20,<2"]
    assert any(line.startswith("onnxruntime-gpu") for line in cuda)
    assert {line.split(">")[0] for line in cpu} >= {"grpcio", "torch", "psycopg[binary]"}
    assert not any(line.startswith("gramophone") for line in (*cpu, *cuda))


def test_torch_can_be_installed_before_the_rest():
    (torch,) = requirements("cpu", "server", "--only", "torch")
    assert torch in requirements("cpu", "server")
