"""What fails is told apart by what really failed."""

import subprocess
import sys

import pytest

from gramophone_server.worker.failures import failure_of

# In a process of its own, that cannot have more than a little beyond what it has.
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


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process's memory are kept on Linux")
@pytest.mark.parametrize("library", ["onnxruntime", "torch"])
def test_running_out_of_memory_is_what_it_is_called_whoever_ran_out(library):
    done = subprocess.run([sys.executable, "-c", SCRIPT, library], capture_output=True, text=True)
    assert done.stdout.strip() == "RESOURCE_EXHAUSTED", done.stderr


def test_what_onednn_says_of_no_memory_is_told_from_what_it_cannot_do():
    """Which of its allocations fails is chance; these are its words, as torch passes them on."""
    assert failure_of(RuntimeError("could not create a primitive")).code == "RESOURCE_EXHAUSTED"
    unable = failure_of(RuntimeError("could not create a primitive descriptor for a matmul primitive"))
    assert (unable.code, "descriptor" in unable.message) == ("INTERNAL", True)
