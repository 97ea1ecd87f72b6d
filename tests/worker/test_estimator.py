"""Estimates of time follow the jobs that have run."""

import json

import pytest
import torch
from google.protobuf.duration_pb2 import Duration

from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone_server.messages.spec import JobSpec, StyleLayer
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from gramophone_server.worker.estimator import Estimator
from gramophone_server.worker.speed_file import SpeedFile
from tests.harness import ServerProcess, run, style_request
from tests.messages.specs import make_spec


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def learn_from(spec: JobSpec, store: ModelStore) -> Estimator:
    """Returns an estimator to which a job of ten seconds an iteration was reported."""
    estimator = Estimator(store, [torch.device("cpu")], None)
    with store.opened(BUILTIN_MODEL) as model:
        estimator.learn(spec, model, estimator.plan(spec, model, {}), 20, 200.0)
    return estimator


def test_the_next_estimate_of_such_a_job_is_the_time_that_it_took(store):
    spec = make_spec(256, model=BUILTIN_MODEL)
    estimate = learn_from(spec, store).estimate(spec, timed=True)
    assert estimate.seconds_per_iteration == pytest.approx(10)


def test_a_job_with_a_loss_whose_time_is_measured_apart_teaches_nothing(store):
    layers = (StyleLayer("conv1_1", 1.0, "sliced_wasserstein"),)
    learn_from(make_spec(256, model=BUILTIN_MODEL, style_layers=layers), store)
    assert SpeedFile().read() == {}


def test_the_jobs_of_a_server_correct_its_estimates(tmp_path):
    request = style_request(size=64, iterations=1_000_000, report_every=5, time_limit=Duration(seconds=4), scales=1)
    file = tmp_path / "gramophone" / "speeds.json"
    with ServerProcess("--log-level", "warning") as server:
        run(server, request)
        ((key, speed),) = json.loads(file.read_text()).items()
        assert key.endswith("jobs of about 64")
        first = server.style.EstimateJob(pb.EstimateJobRequest(style=request)).iteration.ToTimedelta()
        file.write_text(json.dumps({key: speed / 8}))
        second = server.style.EstimateJob(pb.EstimateJobRequest(style=request)).iteration.ToTimedelta()
    assert second / first == pytest.approx(8, rel=0.05)


def test_the_time_on_several_devices_is_learned_apart_from_that_on_one(store):
    spec = make_spec(1024, model=BUILTIN_MODEL)
    one, two = (Estimator(store, [torch.device("cpu")] * count, None) for count in (1, 2))
    with store.opened(BUILTIN_MODEL) as model:
        for estimator, seconds in ((one, 200.0), (two, 120.0)):
            estimator.learn(spec, model, estimator.plan(spec, model, {}), 20, seconds)
    first, second = (estimator.estimate(spec, timed=True) for estimator in (one, two))
    assert (first.seconds_per_iteration, second.seconds_per_iteration) == (pytest.approx(10), pytest.approx(6))
    assert (first.device, second.device) == ("cpu", "cpu+cpu")
