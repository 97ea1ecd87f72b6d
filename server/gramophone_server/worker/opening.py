"""Opens all models of a job: its own, and those of the levels that use another one."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..messages.spec import JobSpec
from ..models.model import Model
from ..models.store import ModelStore


@contextmanager
def opened_models(store: ModelStore, spec: JobSpec) -> Iterator[tuple[Model, dict[str, Model]]]:
    """Opens a job's models for the length of the block: its own model, and the others by name.

    Raises:
        UnknownModelError, ModelError: as `ModelStore.opened`.
    """
    with ExitStack() as stack:
        own, *others = [stack.enter_context(store.opened(name, spec.layers)) for name in spec.models]
        yield own, {model.manifest.name: model for model in others}
