"""Files without usable weights: the error names the kind of the file in one sentence, and no code in it runs."""

import argparse
import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gramophone_export.importing.state_dict import read_weights
from gramophone_export.weights import WeightsError
from gramophone_server.models.store import BUILTIN_ROOT


def saved(value: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


def scripted() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), buffer)
    return buffer.getvalue()


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


def tarred(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def arrays(save: Callable[..., None], *values: Any, **named: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *values, **named)
    return buffer.getvalue()


def safe(tensors: dict[str, torch.Tensor]) -> bytes:
    from safetensors.torch import save

    return save(tensors)


class Code:
    """An object that runs code when it is unpickled."""

    def __reduce__(self):
        return (print, ("code ran",))


BIG = {"conv1_1.weight": torch.zeros(64, 3, 3, 3), "more": torch.zeros(100_000)}
MATLAB = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(126) + b"\x00\x01IM" + bytes(100)
FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "nothing": ("a.pth", lambda: b"", "an empty file"),
    "a login page": ("a.pth", lambda: b"\n <!DOCTYPE html><html><title>Log in</title>", "a web page"),
    "a page of 404": ("a.pth", lambda: b"\xef\xbb\xbf<html>\xe2\x80\xa6 Not Found</html>", "a web page"),
    "an XML error": ("a.pth", lambda: b"<?xml version='1.0'?><Error>AccessDenied</Error>", "an XML document"),
    "a JSON error": ("a.pth", lambda: b'{"message": "Not found"}', "a JSON document"),
    "a pointer of Git LFS": ("a.pth", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs"),
    "text": ("a.pth", lambda: b"hello", "a text"),
    "MATLAB": ("imagenet-vgg-verydeep-19.mat", lambda: MATLAB, "a MATLAB file"),
    "Caffe": ("a.caffemodel", lambda: b"\x0a\x14VGG_ILSVRC_19_layers" + bytes(99), "a Caffe model"),
    "Caffe by another name": ("a.pth", lambda: b"\x0a\x14VGG_ILSVRC_19_layers" + bytes(99), "a Caffe model"),
    "Caffe's text": ("a.prototxt", lambda: b'name: "VGG"\nlayers { bottom: "data" }', "without weights"),
    "ONNX": ("a.onnx", lambda: (BUILTIN_ROOT / "vgg19-random/model.onnx").read_bytes(), "an ONNX model"),
    "ONNX by another name": ("a.pt", lambda: (BUILTIN_ROOT / "vgg19-random/model.onnx").read_bytes(), "an ONNX model"),
    "TensorFlow's graph": ("frozen.pb", lambda: b"\x0a\x0f\x0a\x05input" + bytes(99), "a TensorFlow model"),
    "TensorFlow's index": ("a.index", lambda: os.urandom(64) + bytes.fromhex("57fb808b247547db"), "TensorFlow"),
    "TensorFlow's data": ("vgg_19.ckpt.data-00000-of-00001", lambda: b"\x00\xff" * 99, "TensorFlow"),
    "TensorFlow's list": ("checkpoint", lambda: b'model_checkpoint_path: "x"', "TensorFlow"),
    "Keras": ("a.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
    "Keras 3": ("a.keras", lambda: zipped("config.json", "model.weights.h5"), "a Keras model"),
    "NumPy's array": ("a.npy", lambda: arrays(np.save, np.zeros(3)), "a NumPy array"),
    "NumPy's arrays": ("a.npz", lambda: arrays(np.savez, a=np.zeros(3)), "an archive of NumPy arrays"),
    "Lua Torch": ("a.t7", lambda: b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1" + bytes(99), "Lua Torch"),
    "a picture": ("a.pth", lambda: b"\x89PNG\r\n\x1a\n", "a picture"),
    "gzip": ("a.pth.gz", lambda: gzip.compress(b"x"), "gzip: unpack it"),
    "a ZIP archive": ("a.zip", lambda: zipped("vgg19.pth"), "a ZIP archive: unpack it"),
    "a tar archive": ("a.tar", lambda: tarred("vgg19.pth"), "a tar archive: unpack it"),
    "PyTorch of 2016": ("a.pth", lambda: tarred("sys_info", "pickle", "storages", "tensors"), "PyTorch of 2016"),
    "TorchScript": ("a.pt", scripted, "a TorchScript program"),
    "a module": ("a.pth", lambda: saved(torch.nn.Linear(2, 2)), r"torch\.nn\.modules\.linear\.Linear.*state_dict\(\)"),
    "an old module": (
        "a.pth",
        lambda: saved(torch.nn.Linear(2, 2), _use_new_zipfile_serialization=False),
        r"torch\.nn\.modules\.linear\.Linear.*state_dict\(\)",
    ),
    "a checkpoint with objects": ("a.pth", lambda: saved({"a": argparse.Namespace()}), r"argparse\.Namespace"),
    "code": ("a.pth", lambda: saved({"x": Code()}), "could run code"),
    "arrays in PyTorch's file": ("a.pth", lambda: saved({"conv1_1": np.zeros(3)}), "NumPy arrays rather than tensors"),
    "a pickle": ("a.pkl", lambda: pickle.dumps({"conv1_1": [1.0, 2.0]}), "a pickle of Python objects"),
    "a pickle of arrays": ("a.pkl", lambda: pickle.dumps({"conv1_1": np.zeros(3)}), "pickle|NumPy"),
    "a cut file": ("a.pth", lambda: saved(BIG)[:50_000], "cut off"),
    "a cut old file": ("a.pth", lambda: saved(BIG, _use_new_zipfile_serialization=False)[:50_000], "cut off"),
    "a cut safetensors file": ("a.safetensors", lambda: safe(BIG)[:50_000], "cut off"),
    "noise": ("a.pth", lambda: np.random.default_rng(0).bytes(999), "not known, or damaged"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FILES)
def test_the_error_names_the_kind_of_a_file_without_weights(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    name, make, words = FILES[kind]
    path = tmp_path / name
    path.write_bytes(make())
    with pytest.raises(WeightsError, match=words) as caught:
        read_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert "\n" not in message and len(message) - len(str(path)) < 260
    assert "weights_only" not in message and "…" not in message
    assert "code ran" not in capsys.readouterr().out
