"""A recorder that needs no GPU: it repeats recorded operations of torch on the same memory, as a CUDA graph does."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gramophone_server.engine.graphs import Results, Work

_READS = ("aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::nonzero")


class TapeRecorder:
    """Records each operation with its arguments and results. The host's code does not run again in a repetition.

    Attributes:
        warmed, recorded, repeated: number of calls of each kind.
        operations: number of operations of the latest recording.
    """

    def __init__(self) -> None:
        self.warmed = self.recorded = self.repeated = self.operations = 0

    def warm_up(self, work: Work) -> Results:
        """Runs the work."""
        self.warmed += 1
        return work()

    def record(self, work: Work) -> tuple[Results, Callable[[], None]]:
        """Records the work; like a capture, it leaves all memory as it was."""
        tape = _Tape()
        try:
            with tape:
                results = work()
        finally:
            tape.undo()
        self.recorded += 1
        self.operations = len(tape.steps)

        def repeat() -> None:
            self.repeated += 1
            with torch.no_grad():
                for step in tape.steps:
                    step()

        return results, repeat


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Callable[[], None]] = []
        self._kept: list[Any] = []
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def undo(self) -> None:
        """Restores everything that the recorded operations have overwritten."""
        for tensor, values in reversed(self._before.values()):
            tensor.copy_(values)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = func._schema
        if schema.name in _READS:
            raise RuntimeError(f"the host reads a tensor: {schema.name}")
        if schema.is_mutable:
            for tensor in (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)):
                self._before.setdefault(_place(tensor), (tensor.detach(), tensor.detach().clone()))
        results = func(*args, **kwargs)
        self._kept.append((args, kwargs, results))
        if schema.is_mutable:
            self.steps.append(lambda: func(*args, **kwargs))
        elif not any(returned.alias_info for returned in schema.returns):
            kept = [leaf for leaf in tree_leaves(results) if isinstance(leaf, Tensor)]

            def again() -> None:
                new = [leaf for leaf in tree_leaves(func(*args, **kwargs)) if isinstance(leaf, Tensor)]
                for tensor, values in zip(kept, new, strict=True):
                    tensor.copy_(values)

            self.steps.append(again)
        return results


def _place(tensor: Tensor) -> int:
    return hash((tensor.data_ptr(), tensor.shape, tensor.stride()))
