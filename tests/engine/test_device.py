"""Names of devices, and their memory."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gramophone_server.engine.device import Memory, device_name, has_native_bfloat16


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


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize(
    ("limit", "may"),
    [("", True), ("ALL", True), ("default", True), ("AVX512_CORE_AMX", True), ("AVX512_CORE", False), ("avx2", False)],
)
def test_matrix_units_count_only_where_onednn_may_use_them(monkeypatch, variable, limit, may):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert has_native_bfloat16(torch.device("cpu"))
    monkeypatch.setenv(variable, limit)
    assert has_native_bfloat16(torch.device("cpu")) == may
