"""The memory of a prepared job is freed when the job is closed."""

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.inputs import prepare
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from gramophone_server.worker.prepared import PreparedJob


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_closed_job_is_freed_without_the_garbage_collector(no_garbage_collector):
    job: PreparedJob = prepare(
        ModelStore().get(BUILTIN_MODEL), np.full((32, 32, 3), 99, np.uint8), size=32, iterations=2
    )
    for frame in job.synthesis:
        job.finish(frame)
    held = weakref.ref(job), weakref.ref(job.synthesis), weakref.ref(job._terms)
    job.close()
    del job, frame
    assert [reference() for reference in held] == [None, None, None]
