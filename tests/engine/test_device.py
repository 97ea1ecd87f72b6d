"""What the engine runs on."""

import platform
from pathlib import Path

import pytest
import torch

from gramophone_server.engine.device import device_name


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux says there what its processor is")
def test_a_processor_is_named_with_its_instructions():
    name, _, capability = device_name(torch.device("cpu")).rpartition(", ")
    assert name in Path("/proc/cpuinfo").read_text() or name == (platform.processor() or platform.machine())
    assert capability == torch.backends.cpu.get_cpu_capability()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_is_named_as_it_names_itself():
    assert device_name(torch.device("cuda:0")) == torch.cuda.get_device_name(0)
