"""Another program changes the folder of models: the server refuses damaged models by name and keeps serving."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import external_data_helper, numpy_helper

from gramophone.v1 import job_pb2, job_service_pb2, model_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone_server.models.model import Model
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from tests.harness import ServerProcess, events, png, style_request, wait_until

PICTURE = options_pb2.InputImage(data=png())


class Folder:
    """A folder of models with a copy of the built-in model, named "mine"."""

    def __init__(self, path: Path) -> None:
        self.store = ModelStore(path)
        self.builtin = self.store.get(BUILTIN_MODEL)
        self.restore()

    @property
    def model(self) -> Path:
        return self.store.root / "mine" / "model.onnx"

    @property
    def manifest(self) -> Path:
        return self.store.root / "mine" / "manifest.json"

    def restore(self, data: bytes | None = None) -> Model:
        """Writes the model again, with the bytes of the built-in model's file or with `data`."""
        manifest = replace(self.builtin.manifest, name="mine")
        return self.store.add(manifest, self.builtin.path.read_bytes() if data is None else data)

    def change_manifest(self, **changes: Any) -> None:
        """Changes fields of the manifest, and not the file of the model."""
        self.manifest.write_text(json.dumps(json.loads(self.manifest.read_text()) | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    return Folder(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("data")
    with ServerProcess("--models", str(folder.store.root), "--data", str(data), "--threads", "1") as started:
        yield started


def paint(server: ServerProcess, seed: int = 0) -> job_pb2.JobEvent:
    """Returns the last event of a job that uses the model "mine"."""
    return list(events(server.style.ReconstructStyle(style_request(seed, model="mine"))))[-1]


def extract(server: ServerProcess) -> list[model_service_pb2.ExtractFeaturesResponse]:
    request = model_service_pb2.ExtractFeaturesRequest(image=PICTURE, model="mine", layers=["conv1_1"])
    return list(server.models.ExtractFeatures(request))


def estimate(server: ServerProcess) -> pb.EstimateJobResponse:
    return server.style.EstimateJob(pb.EstimateJobRequest(style=style_request(model="mine")))


def refusals(server: ServerProcess) -> set[str]:
    """Checks that a job, features and an estimate with the model are refused; returns the messages."""
    job = paint(server)
    assert job.state == job_pb2.JOB_STATE_FAILED
    assert job.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0], job.error
    found = {job.error.message}
    for call in (extract, estimate):
        with pytest.raises(grpc.RpcError) as caught:
            call(server)
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION, caught.value
        found.add(caught.value.details() or "")
    return found


def flip(path: Path) -> None:
    """Flips one bit and keeps the file's times and size."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def remove(path: Path) -> None:
    path.unlink()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def huge(path: Path) -> None:
    os.truncate(path, 10 << 30)


@pytest.mark.parametrize("damage", [flip, truncate, remove, pipe, directory, loop, huge])
def test_a_model_whose_file_was_changed_is_refused_until_it_is_restored(server, folder, damage):
    # Fill the server's caches from the valid file.
    assert paint(server).state == job_pb2.JOB_STATE_SUCCEEDED
    assert extract(server)[0].features
    workers = [worker.pid for worker in server.workers()]
    damage(folder.model)
    (sentence,) = refusals(server)
    assert sentence.startswith("The model 'mine' cannot be used: its file model.onnx ")
    assert "pull or import the model again" in sentence
    assert str(folder.store.root) not in sentence
    folder.restore()
    assert paint(server).state == job_pb2.JOB_STATE_SUCCEEDED
    assert estimate(server).HasField("duration")
    assert [worker.pid for worker in server.workers()] == workers


def not_onnx(model: onnx.ModelProto) -> bytes:
    return b"not an ONNX file"


def empty(model: onnx.ModelProto) -> bytes:
    return b""


def without_a_layer(model: onnx.ModelProto) -> bytes:
    del model.graph.node[-1:]
    return model.SerializeToString()


def weights_elsewhere(model: onnx.ModelProto) -> bytes:
    """Moves the first weights to a file outside of the folder, by reference."""
    tensor = model.graph.initializer[0]
    tensor.raw_data = numpy_helper.to_array(tensor).tobytes()
    external_data_helper.set_external_data(tensor, "../../../etc/passwd", 0, 16)
    tensor.ClearField("raw_data")
    return model.SerializeToString()


def another_operator(model: onnx.ModelProto) -> bytes:
    model.graph.node[1].op_type = "Sigmoid"
    return model.SerializeToString()


def smaller_weights(model: onnx.ModelProto) -> bytes:
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(np.zeros((1, 3, 3, 3), np.float32), tensor.name))
    return model.SerializeToString()


def too_few_bytes(model: onnx.ModelProto) -> bytes:
    model.graph.initializer[0].raw_data = b"1234"
    return model.SerializeToString()


@pytest.mark.parametrize(
    "damage",
    [not_onnx, empty, without_a_layer, weights_elsewhere, another_operator, smaller_weights, too_few_bytes],
)
def test_a_model_file_that_does_not_match_its_manifest_is_refused(server, folder, damage):
    folder.restore(damage(onnx.load(folder.builtin.path)))
    try:
        # An estimate is not refused: it needs only the manifest once the device's speed is known.
        job = paint(server)
        assert job.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0], job.error
        assert "The model 'mine' cannot be used: its file model.onnx " in job.error.message
        request = model_service_pb2.ExtractFeaturesRequest(image=PICTURE, model="mine", layers=["conv2_1"])
        with pytest.raises(grpc.RpcError) as caught:
            list(server.models.ExtractFeatures(request))
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    finally:
        folder.restore()
    assert paint(server).state == job_pb2.JOB_STATE_SUCCEEDED


def test_the_next_job_uses_a_replaced_model(server, folder):
    before = paint(server).result
    graph = onnx.load(folder.builtin.path)
    bias = next(tensor for tensor in graph.graph.initializer if tensor.name == "conv1_1.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + bias_step(bias), bias.name))
    replaced = folder.restore(graph.SerializeToString())
    try:
        after = paint(server).result
        assert json.loads(after.recipe_json)["model"]["sha256"] == replaced.manifest.sha256
        assert after.image.data != before.image.data
    finally:
        folder.restore()
    assert paint(server).result.image.data == before.image.data


def bias_step(bias: onnx.TensorProto) -> np.ndarray:
    return np.ones((), numpy_helper.to_array(bias).dtype)


def test_replacing_a_model_fails_a_waiting_job_whose_layers_are_gone_and_no_running_job(server, folder):
    long = style_request(iterations=1_000_000, report_every=1, model="mine")
    stream = server.style.ReconstructStyle(long)
    running = next(event.job_id for event in events(stream) if event.HasField("progress"))
    waiting = server.style.ReconstructStyle(style_request(3, model="mine", size=64))
    next(waiting)
    small = replace(folder.builtin.manifest, name="mine", layers=folder.builtin.manifest.layers[:1], parity={})
    folder.store.add(small, folder.builtin.path.read_bytes())
    try:
        server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=running))
        assert list(events(stream))[-1].state == job_pb2.JOB_STATE_CANCELLED
        ended = list(events(waiting))[-1]
        assert ended.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0], ended
        assert "has no layer conv2_1 any more" in ended.error.message
    finally:
        folder.restore()


def on_manifest(change: Callable[[Path], None]) -> Callable[[Folder], None]:
    return lambda folder: change(folder.manifest)


MANIFESTS: dict[str, Callable[[Folder], None]] = {
    "not UTF-8": lambda folder: folder.manifest.write_bytes(b'{"name": "\xff\xfe"}'),  # type: ignore[dict-item]
    "nested": lambda folder: folder.manifest.write_text("[" * 10_000 + "]" * 10_000),  # type: ignore[dict-item]
    "huge": lambda folder: os.truncate(folder.manifest, 3 << 30),
    "pipe": on_manifest(pipe),
    "folder": on_manifest(directory),
    "loop": on_manifest(loop),
    "NaN": lambda folder: folder.change_manifest(tv_weight=float("nan")),
    "half a surrogate pair": lambda folder: folder.change_manifest(description="\ud800"),
    "channels": lambda folder: folder.change_manifest(layers=[{"name": "conv1_1", "channels": -1, "stride": 1}]),
    "stride": lambda folder: folder.change_manifest(layers=[{"name": "conv1_1", "channels": 64, "stride": 0}]),
    "no layers": lambda folder: folder.change_manifest(layers=[]),
    "text": lambda folder: folder.change_manifest(description=7),
}


@pytest.mark.parametrize("damage", MANIFESTS.values(), ids=MANIFESTS)
def test_a_model_with_a_damaged_manifest_is_skipped(server, folder, damage):
    damage(folder)
    try:
        listed = server.models.ListModels(model_service_pb2.ListModelsRequest(), timeout=10).models
        assert [model.name for model in listed] == [BUILTIN_MODEL, "vgg19-random"]
        with pytest.raises(grpc.RpcError) as caught:
            estimate(server)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        assert f"model {folder.store.root / 'mine'} is ignored" in server.read_log()
    finally:
        folder.restore()
    assert len(server.models.ListModels(model_service_pb2.ListModelsRequest()).models) == 3


def test_models_of_a_folder_that_is_replaced_are_gone_until_it_returns(server, folder, tmp_path):
    root, aside = folder.store.root, tmp_path / "aside"
    root.rename(aside)
    for make in (os.mkfifo, lambda path: path.symlink_to(path), lambda path: path.write_text("")):
        make(root)
        listed = server.models.ListModels(model_service_pb2.ListModelsRequest(), timeout=10).models
        assert len(listed) == 2
        root.unlink()
    aside.rename(root)
    wait_until(lambda: len(server.models.ListModels(model_service_pb2.ListModelsRequest()).models) == 3, "the model")
