"""Recorded updates: the same bits as without a recording, at every report, and with every fallback."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from gramophone_server.engine.canvas import noise
from gramophone_server.engine.graphs import WARM_UP, Captured, CapturedObjective, tensors_of, with_tensors
from gramophone_server.engine.network import Network
from gramophone_server.engine.objective import Evaluation
from gramophone_server.engine.optimizers.adam import Adam
from gramophone_server.engine.optimizers.lbfgs import LBFGS
from gramophone_server.engine.synthesis import Plateau
from gramophone_server.models.vgg import vgg
from tests.engine.tape import TapeRecorder
from tests.engine.test_synthesis import objective, synthesis

MAKERS = [Adam, partial(LBFGS, history=4, fixed=True), partial(LBFGS, history=4)]
NAMES = ["adam", "lbfgs", "lbfgs-growing"]
OPTIONS: list[dict[str, object]] = [
    {},
    {"averaging": 0.9},
    {"plateau": Plateau(0.02, 5), "report_every": 1},
    {"sizes": (16, 32)},
]


@pytest.fixture
def network(weights):
    return Network(vgg(weights), weights, ["conv1_1", "conv2_1", "conv3_1"])


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch):
    """The optimizers take the way of a GPU, where no decision of the host depends on values of tensors."""
    monkeypatch.setattr("gramophone_server.engine.optimizers.batch._is_on_host", lambda _: False)


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_recording_changes_no_bit_of_any_report(network, make, options):
    recorders: list[TapeRecorder] = []

    def recorder() -> TapeRecorder:
        recorders.append(TapeRecorder())
        return recorders[-1]

    plain = list(synthesis(network, make, iterations=24, **options))
    recorded = list(synthesis(network, make, iterations=24, recorder=recorder, **options))
    assert [frame.iteration for frame in recorded] == [frame.iteration for frame in plain]
    for ours, theirs in zip(recorded, plain, strict=True):
        for name in ("canvas", "terms", "loss", "average"):
            one, other = getattr(ours, name), getattr(theirs, name)
            assert one is other is None or torch.equal(one, other), (ours.iteration, name)
        assert torch.equal(ours.best.canvas, theirs.best.canvas)
        assert torch.equal(ours.best.loss, theirs.best.loss)
    assert len(recorders) == len(options.get("sizes", (32,)))  # type: ignore[arg-type]
    for level, used in enumerate(recorders):
        updates = max(frame.iteration for frame in plain if frame.level == level) - 24 * level
        assert used.recorded == 1
        assert used.repeated >= updates - 2 * WARM_UP - 1 > 0


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_a_job_whose_evaluation_is_shared_records_the_rest_of_its_updates(network, make):
    """An evaluation that reads tensors on the host, as one that waits for other jobs, is never recorded."""

    class Shared:
        def __init__(self) -> None:
            self.evaluations, self._objective = 0, objective(network)

        def evaluate(self, canvas: Tensor) -> Evaluation:
            self.evaluations += bool(canvas.sum().item())
            return self._objective.evaluate(canvas.clone())

    options = {"iterations": 20, "averaging": 0.9, "report_every": 4}
    plain, recorder, shared = list(synthesis(network, make, **options)), TapeRecorder(), Shared()
    running = synthesis(network, make, recorder=lambda: recorder, evaluates_apart=True, **options)
    running._levels = tuple(replace(level, open=lambda: shared) for level in running._levels)
    for ours, theirs in zip(running, plain, strict=True):
        assert torch.equal(ours.canvas, theirs.canvas)
        assert torch.equal(ours.loss, theirs.loss)
        assert torch.equal(ours.best.canvas, theirs.best.canvas)
    assert shared.evaluations == 20
    assert recorder.recorded == (make is not MAKERS[2])


@pytest.mark.parametrize("make", MAKERS[:2], ids=NAMES[:2])
def test_a_recorded_job_resumes_with_the_same_bytes_also_without_a_recording(network, make, tmp_path):
    options = {"iterations": 20, "averaging": 0.9, "plateau": Plateau(0.001, 5)}
    saved = []
    undisturbed = synthesis(network, make, recorder=TapeRecorder, **options)
    for number, frame in enumerate(undisturbed):
        torch.save(undisturbed.state(), tmp_path / f"{number}.pt")
        saved.append(frame)
    for recorder in (TapeRecorder, None):
        for number in range(len(saved) - 1):
            resumed = synthesis(network, make, recorder=recorder, **options)
            resumed.load(torch.load(tmp_path / f"{number}.pt", weights_only=True))
            last = list(resumed)[-1]
            assert torch.equal(last.canvas, saved[-1].canvas), f"resumed at report {number}"
            assert torch.equal(last.best.canvas, saved[-1].best.canvas)


def test_a_state_keeps_its_values_while_updates_continue(network):
    running = synthesis(network, partial(LBFGS, fixed=True), recorder=TapeRecorder, iterations=20, report_every=4)
    states = []
    for frame in running:
        states.append((frame, [t.clone() for t in tensors_of(running.state())], running.state()))
    assert len(states) == 5
    for _, before, state in states:
        assert all(torch.equal(a, b) for a, b in zip(before, tensors_of(state), strict=True))


class Failing(TapeRecorder):
    """A recorder whose memory does not suffice for the end of the work."""

    def record(self, work):
        def too_large():
            work()
            raise RuntimeError("CUDA out of memory\nmore")

        return super().record(too_large)


def test_a_failed_recording_changes_nothing_and_is_told(network, caplog):
    make = partial(LBFGS, history=40, fixed=True)
    plain = list(synthesis(network, make))[-1]
    failed = list(synthesis(network, make, recorder=Failing))[-1]
    assert torch.equal(failed.canvas, plain.canvas)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["the steps run without a CUDA graph (CUDA out of memory)"]


def test_work_that_reads_a_tensor_on_the_host_runs_without_a_recording(caplog):
    def work(x: Tensor) -> tuple[Tensor, ...]:
        return (x * 2 if x.sum().item() > 0 else x * 3,)

    captured = Captured(work, TapeRecorder())
    for value in range(-5, 5):
        x = torch.full((2,), float(value))
        assert torch.equal(captured(x)[0], x * (2 if value > 0 else 3))
    assert not captured.is_recorded
    assert len(caplog.records) == 1


def test_a_captured_objective_follows_the_shape_of_the_canvases(network):
    """Canvases of several jobs are evaluated together; their number changes."""
    recorder = TapeRecorder()
    captured = {n: CapturedObjective(objective(network, n), recorder) for n in (2, 3)}
    plain = {n: objective(network, n) for n in (2, 3)}
    for seed in range(8):
        for n in (2, 3):
            canvas = noise(range(seed, seed + n), 32, 32)
            ours, theirs = captured[n].evaluate(canvas), plain[n].evaluate(canvas.clone())
            for name in ("terms", "loss", "gradient"):
                assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert recorder.recorded == 2


def test_results_are_the_callers_own():
    captured = Captured(lambda x: (x + 1,), TapeRecorder())
    results = [captured(torch.full((3,), float(n)))[0] for n in range(8)]
    assert [result[0].item() for result in results] == list(range(1, 9))


def test_another_shape_is_recorded_anew():
    recorder = TapeRecorder()
    captured = Captured(lambda x: (x + 1,), recorder)
    for size in (2, 3, 2):
        for n in range(WARM_UP + 2):
            assert torch.equal(captured(torch.full((size,), float(n)))[0], torch.full((size,), n + 1.0))
    assert recorder.recorded == 3
    assert recorder.warmed == 3 * WARM_UP


def test_variables_may_trade_places():
    """As in a list of the latest losses: the new first is the old second."""
    values = [torch.tensor([0.0]), torch.tensor([1.0])]

    def work() -> tuple[Tensor, ...]:
        values[:] = [values[1], values[0] + values[1]]
        return ()

    def assign(new: list[Tensor]) -> None:
        values[:] = new

    captured = Captured(work, TapeRecorder(), variables=lambda: list(values), assign=assign)
    seen = []
    for _ in range(10):
        captured()
        seen.append(values[1].item())
    assert seen == [1, 2, 3, 5, 8, 13, 21, 34, 55, 89]
    assert captured.is_recorded


def test_tensors_are_put_back_in_the_order_in_which_they_are_found():
    tree = {"a": [torch.zeros(1), 5], "b": {"c": torch.ones(1)}}
    found = tensors_of(tree)
    assert [tensor.item() for tensor in found] == [0, 1]
    again = with_tensors(tree, iter([torch.tensor([7.0]), torch.tensor([8.0])]))
    assert again["a"][1] == 5
    assert [tensor.item() for tensor in tensors_of(again)] == [7, 8]
