"""The error codes of failures: lack of memory, and other errors."""

import subprocess
import sys

import pytest

from gramophone_server.worker.failures import failure_of

# Runs in a separate process, whose address space is limited to 16 MiB more than it already uses.
SCRIPT = """
import resource, sys
import numpy as np, psutil, torch
from gramophone_server.models.features import FeatureExtractor
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from gramophone_server.worker.failures import failure_of

def extract(side):
    extractor = FeatureExtractor(ModelStore().get(BUILTIN_MODEL), threads=1)
    extractor.extract(np.zeros((side, side, 3), np.uint8), ["conv3_1"])

def multiply(side):
    torch.ones(side, 3000).square()

act = {"onnxruntime": extract, "torch": multiply}[sys.argv[1]]
act(64)
limit = psutil.Process().memory_info().vms + (16 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    act(640 if sys.argv[1] == "onnxruntime" else 2000)
except Exception as error:
    print(failure_of(error).code)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces RLIMIT_AS")
@pytest.mark.parametrize("library", ["onnxruntime", "torch"])
def test_lack_of_memory_is_resource_exhausted_in_both_libraries(library):
    done = subprocess.run([sys.executable, "-c", SCRIPT, library], capture_output=True, text=True)
    assert done.stdout.strip() == "RESOURCE_EXHAUSTED", done.stderr


def test_onednn_errors_for_lack_of_memory_and_for_unsupported_operations():
    """Which allocation of oneDNN fails is random, so this test uses oneDNN's messages as torch raises them."""
    assert failure_of(RuntimeError("could not create a primitive")).code == "RESOURCE_EXHAUSTED"
    unable = failure_of(RuntimeError("could not create a primitive descriptor for a matmul primitive"))
    assert (unable.code, "descriptor" in unable.message) == ("INTERNAL", True)
