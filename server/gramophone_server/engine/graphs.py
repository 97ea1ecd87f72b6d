"""CUDA graphs: a step that is recorded once and then launched as a whole.

A step consists of hundreds of small kernels. Launched one by one, they take the host longer than they take a fast GPU.
A graph is launched by a single call. It repeats the same kernels on the same memory, so its results have the same bits.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from .device import memory_locked, release_free_memory
from .objective import Evaluation

log = logging.getLogger(__name__)

# Calls with the same shapes before a recording, which torch's documentation asks for: libraries load and choose their
# algorithms during the first ones.
WARM_UP = 3

Results = tuple[Tensor, ...]
Work = Callable[[], Results]


class Recorder(Protocol):
    """Records work on tensors, so that it can be repeated without the host's code."""

    def warm_up(self, work: Work) -> Results:
        """Runs the work as it will be recorded, and returns its results."""
        ...

    def record(self, work: Work) -> tuple[Results, Callable[[], None]]:
        """Records the work without running it.

        Returns:
            The tensors of its results, and a function that runs the recorded work and overwrites them.

        Raises:
            RuntimeError: the work waits for the device, or the memory does not suffice.
        """
        ...


class GraphRecorder:
    """Records work as CUDA graphs, with memory of their own that is freed when all graphs of the recorder are dropped.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = _side_stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> Results:
        """Runs the work on the stream of the recordings, where the libraries then have their work space."""
        usual = torch.cuda.current_stream(self._stream.device)
        # Another thread's recording would take the work.
        with memory_locked():
            self._stream.wait_stream(usual)
            with torch.cuda.stream(self._stream):
                results = work()
            usual.wait_stream(self._stream)
        return results

    def record(self, work: Work) -> tuple[Results, Callable[[], None]]:
        """Captures the work. Other threads may use the GPU meanwhile, but not return its memory."""
        graph = torch.cuda.CUDAGraph()
        capture = torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local")
        with memory_locked(), capture:
            results = work()
        return results, graph.replay


@lru_cache(maxsize=16)
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    # One stream for all recordings: cuBLAS keeps work space for each stream that it has ever used.
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class Captured:
    """A function that is recorded after some calls with the same shapes, and then only repeated.

    If the recording fails, the function runs as it is, with the same results.

    Args:
        function: work on tensors of one device, which depends only on the tensors given to it and on its variables.
        recorder: records the function.
        variables: returns the tensors that the function replaces, in any structure of dicts and lists.
        assign: sets the variables, given the same structure of other tensors.
    """

    def __init__(
        self,
        function: Callable[..., Results],
        recorder: Recorder,
        *,
        variables: Callable[[], Any] = list,
        assign: Callable[[Any], None] = lambda _: None,
    ) -> None:
        self._function = function
        self._recorder = recorder
        self._get = variables
        self._set = assign
        self._failed = False
        self._restart(())

    @property
    def is_recorded(self) -> bool:
        """Whether calls overwrite the variables' memory instead of replacing the variables."""
        return self._replay is not None

    def __call__(self, *inputs: Tensor) -> Results:
        """Returns new tensors with the results of the function for the given inputs."""
        if self._failed:
            return self._function(*inputs)
        given = [*inputs, *tensors_of(self._get())]
        if (shapes := tuple((tensor.shape, tensor.dtype) for tensor in given)) != self._shapes:
            self._restart(shapes)
        if self._replay is None:
            if self._calls < WARM_UP:
                self._calls += 1
                return self._recorder.warm_up(lambda: self._function(*inputs))
            if not self._record(inputs):
                return self._function(*inputs)
        assert self._replay is not None
        for own, other in zip(self._given, given, strict=True):
            if own is not other:
                own.copy_(other)
        self._set(self._variables)
        self._replay()
        return tuple(result.clone() for result in self._results)

    def close(self) -> None:
        """Frees the recording; the variables keep their values."""
        self._restart(())

    def _restart(self, shapes: tuple[tuple[torch.Size, torch.dtype], ...]) -> None:
        self._shapes = shapes
        self._calls = 0
        self._replay: Callable[[], None] | None = None
        self._results: Results = ()
        # The tensors that the recording reads, and those of them that are variables, in their structure.
        self._given: list[Tensor] = []
        self._variables: Any = None

    def _record(self, inputs: Sequence[Tensor]) -> bool:
        """Records the function; returns whether that succeeded."""
        before = self._get()
        own = [tensor.clone() for tensor in inputs]
        variables = with_tensors(before, iter([tensor.clone() for tensor in tensors_of(before)]))
        kept = tensors_of(variables)

        def work() -> Results:
            self._set(variables)
            results = self._function(*own)
            _write(kept, tensors_of(self._get()))
            return results

        try:
            self._results, self._replay = self._recorder.record(work)
        except RuntimeError as error:
            self._failed = True
            log.warning("the steps run without a CUDA graph (%s)", str(error).splitlines()[0])
        self._set(before)
        if self._failed:
            # Only now does nothing refer to the memory of the recording.
            release_free_memory()
            return False
        self._given, self._variables = [*own, *kept], variables
        return True


class CapturedObjective:
    """An objective whose evaluation is a graph, for each shape of canvases that it meets again and again.

    Args:
        objective: the objective.
        recorder: records the evaluation.
    """

    def __init__(self, objective: "Evaluator", recorder: Recorder) -> None:
        def evaluate(canvas: Tensor) -> Results:
            at = objective.evaluate(canvas)
            return at.terms, at.loss, at.gradient

        self._captured = Captured(evaluate, recorder)

    def evaluate(self, canvas: Tensor) -> Evaluation:
        """Returns the loss and gradient at a canvas (N, 3, H, W)."""
        return Evaluation(*self._captured(canvas))

    def close(self) -> None:
        """Frees the recording."""
        self._captured.close()


class Evaluator(Protocol):
    """Computes the loss of canvases and its gradient."""

    def evaluate(self, canvas: Tensor) -> Evaluation:
        """Returns the loss and gradient at a canvas (N, 3, H, W)."""
        ...


def tensors_of(tree: Any) -> list[Tensor]:
    """Returns the tensors in a structure of dicts and lists, in a fixed order."""
    match tree:
        case Tensor():
            return [tree]
        case dict():
            return [tensor for item in tree.values() for tensor in tensors_of(item)]
        case list() | tuple():
            return [tensor for item in tree for tensor in tensors_of(item)]
        case _:
            return []


def with_tensors(tree: Any, tensors: Iterator[Tensor]) -> Any:
    """Returns a structure of dicts and lists with its tensors replaced, in the order of `tensors_of`."""
    match tree:
        case Tensor():
            return next(tensors)
        case dict():
            return {key: with_tensors(item, tensors) for key, item in tree.items()}
        case list() | tuple():
            return [with_tensors(item, tensors) for item in tree]
        case _:
            return tree


def _write(onto: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copies each value onto the tensor in its place; a value may share the memory of other tensors of `onto`."""
    places = {tensor.untyped_storage().data_ptr() for tensor in onto}
    apart = [
        value.clone() if value is not own and value.untyped_storage().data_ptr() in places else value
        for own, value in zip(onto, values, strict=True)
    ]
    for own, value in zip(onto, apart, strict=True):
        if own is not value:
            own.copy_(value)
