"""Recognizes files that are not PyTorch weights by their first bytes, for a helpful error message."""

import json
import string
import struct
import tarfile
import zipfile
from pathlib import Path

WANTED = "a PyTorch state dict (.pth or .pt), a safetensors file or an ONNX file (.onnx) of the network is needed"
ONNX = "an ONNX model"
_HEAD = 4096
_PRINTABLE = frozenset(string.printable.encode()) - {0x0B, 0x0C}
_UNPACK = "unpack it and use the file of weights in it"

# Signatures: an offset in the file, the bytes there, and the kind of file.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a pointer of Git LFS in place of the file: run `git lfs pull`"),
    (0, b"MATLAB 5.0 MAT-file", "a MATLAB file (.mat), such as those of MatConvNet"),
    (0, b"MATLAB 7.3 MAT-file", "a MATLAB file (.mat), such as those of MatConvNet"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (.h5), such as those of Keras"),
    (0, b"\x93NUMPY", "a NumPy array (.npy)"),
    (0, b"\x1f\x8b", f"compressed with gzip: {_UNPACK}"),
    (0, b"BZh", f"compressed with bzip2: {_UNPACK}"),
    (0, b"\xfd7zXZ\x00", f"compressed with xz: {_UNPACK}"),
    (0, b"\x28\xb5\x2f\xfd", f"compressed with Zstandard: {_UNPACK}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7-Zip archive: {_UNPACK}"),
    (0, b"Rar!", f"a RAR archive: {_UNPACK}"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff", "a picture"),
    (0, b"GIF8", "a picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x7fELF", "a program"),
    (0, b"\x04\x00\x00\x00\x01\x00\x00\x00", "a file of Lua Torch (.t7)"),
    (257, b"ustar", f"a tar archive: {_UNPACK}"),
)
_TENSORFLOW = struct.pack("<Q", 0xDB4775248B80FB57)
"""The last bytes of the table of a TensorFlow checkpoint."""


def kind_of(path: Path) -> str | None:
    """Returns the kind of a file, to complete "it is …"; None if it may contain PyTorch weights or safetensors.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head, size = file.read(_HEAD), path.stat().st_size
        file.seek(max(0, size - 8))
        tail = file.read(8)
    if not head:
        return "an empty file"
    if zipfile.is_zipfile(path):
        return _archive(path)
    if head.startswith(b"PK\x03\x04"):
        return "cut off, because its end is missing: download it again"
    for offset, signature, kind in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return _legacy(path) or kind
    if tail == _TENSORFLOW or ".ckpt.data-" in path.name or ".data-0000" in path.name:
        return "a part of a TensorFlow checkpoint"
    if is_safetensors(head) or head.startswith(b"\x80"):
        return None
    return _text(head) or _message(head, path) or "of a kind that is not known, or damaged"


def is_safetensors(head: bytes) -> bool:
    """Returns whether a file with this beginning is a safetensors file: the length of a JSON object, then it."""
    return len(head) > 8 and int.from_bytes(head[:8], "little") < 1 << 32 and head[8:9] == b"{"


def _archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "a damaged ZIP archive: download it again"
    # In an archive of PyTorch, all files are in one folder.
    inside = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inside and any(name.startswith("code/") for name in inside):
        return "a TorchScript program: load it with the program that created it, and save its state_dict()"
    if any(name.endswith("data.pkl") for name in inside):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays (.npz)"
    if "model.weights.h5" in names:
        return "a Keras model (.keras)"
    if any(name.startswith("archive/") or name.endswith("saved_model.pb") for name in names):
        return "an archive of another program"
    return f"a ZIP archive: {_UNPACK}"


def _legacy(path: Path) -> str | None:
    """Returns the kind of a tar archive in the format of PyTorch before 0.1.10; None for any other file."""
    try:
        with tarfile.open(path) as archive:
            if {"pickle", "storages", "tensors"} <= {name.removeprefix("./") for name in archive.getnames()}:
                return "a tar archive of PyTorch of 2016: load it with an old PyTorch, and save it with a new one"
    except (tarfile.TarError, OSError, EOFError):
        pass
    return None


def _text(head: bytes) -> str | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    start = text[:200].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<script", b"<body")) or b"<html" in start:
        return "a web page, such as a login page or an error page: download the file itself"
    # Bytes of 0x80 and above are not checked: they belong to multi-byte characters, and the last one can be cut.
    if any(byte < 0x80 and byte not in _PRINTABLE for byte in head):
        return None
    if start.startswith(b"<"):
        return "an XML document"
    if start.startswith((b"{", b"[")):
        return "a JSON document" if _is_json(text) else "a text"
    if start.startswith(b"model_checkpoint_path"):
        return "a part of a TensorFlow checkpoint"
    if b"layer" in text and b"bottom:" in text:
        return "a description of a Caffe network (.prototxt), without weights"
    return "a text"


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except RecursionError:
        return False
    except ValueError:
        return len(text) > _HEAD // 2  # A long text is cut, because only its beginning was read.
    return True


def _message(head: bytes, path: Path) -> str | None:
    """Returns the kind of a Protocol Buffers message, by its first field; None if it is not known."""
    suffix = path.suffix.lower()
    if suffix == ".onnx" or (head[0] == 0x08 and head[1] < 0x20 and head[2:3] in (b"\x12", b"\x1a", b"\x3a")):
        if suffix in (".pb", ".pbtxt") or (head[2:3] == b"\x12" and suffix != ".onnx" and b"tensorflow" in head):
            return "a TensorFlow model (.pb)"
        return ONNX
    if suffix == ".pb":
        return "a TensorFlow model (.pb)"
    named = head[0] == 0x0A and 0 < head[1] < 0x80 and all(byte in _PRINTABLE for byte in head[2 : 2 + head[1]])
    if suffix in (".caffemodel", ".binaryproto") or named:
        return "a Caffe model (.caffemodel): convert it to PyTorch's layout first"
    return None
