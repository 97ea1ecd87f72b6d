"""Names of devices, and their memory."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gramophone_server.engine.device import Memory, device_name


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux has /proc/cpuinfo")
def test_the_name_of_a_cpu_has_its_instruction_set():
    name, _, capability = device_name(torch.device("cpu")).rpartition(", ")
    assert name in Path("/proc/cpuinfo").read_text() or name == (platform.processor() or platform.machine())
    assert capability == torch.backends.cpu.get_cpu_capability()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_name_of_a_gpu_is_torchs():
    assert device_name(torch.device("cuda:0")) == torch.cuda.get_device_name(0)


def test_the_memory_of_processes_beside_counts_as_available_until_they_end():
    held = 300 << 20
    code = f"import sys; x = b'1' * {held}; print(len(x), flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        other.stdout.readline()
        memory, own = Memory(torch.device("cpu")), Memory(torch.device("cpu"))
        memory.beside = (other.pid,)
        both = memory.available() - own.available()
        other.kill()
    assert both == pytest.approx(held, rel=0.3)
    assert Memory(torch.device("cpu"), 1 << 20).available() == 1 << 20
    assert memory.available() == pytest.approx(own.available(), rel=0.1)
