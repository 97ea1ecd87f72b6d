"""Names of devices."""

import platform
from pathlib import Path

import pytest
import torch

from gramophone_server.engine.device import device_name


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux has /proc/cpuinfo")
def test_the_name_of_a_cpu_has_its_instruction_set():
    name, _, capability = device_name(torch.device("cpu")).rpartition(", ")
    assert name in Path("/proc/cpuinfo").read_text() or name == (platform.processor() or platform.machine())
    assert capability == torch.backends.cpu.get_cpu_capability()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_name_of_a_gpu_is_torchs():
    assert device_name(torch.device("cuda:0")) == torch.cuda.get_device_name(0)
