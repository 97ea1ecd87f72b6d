"""Decides whether the first levels of a job run through the small built-in model."""

from collections.abc import Sequence

from ..messages.options import JobKind, SynthesisOptions
from ..models.manifest import Manifest
from ..rpc.violations import Checker

# Content of the first canvas with which a warm start is the default.
_FROM_NOISE = "noise", "style_statistics"


def warm_start(
    read: SynthesisOptions, kind: JobKind, layers: Sequence[str], small: Manifest, check: Checker, prefix: str
) -> bool:
    """Returns whether a job has a warm start, and adds a violation if it asks for one that is impossible.

    Args:
        read: the options, in which `warm_start` is None if the request does not set it.
        layers: names of the layers of the job.
        small: the built-in model.
        prefix: path of the options in the request.
    """
    asked: bool | None = read.warm_start
    if asked is False or read.model == small.name:
        return False
    known = [layer.name for layer in small.layers]
    missing = [name for name in layers if name not in known]
    if asked and missing:
        reason = f"is true, but the model {small.name} has no layer {missing[0]}"
        check.add(f"{prefix}warm_start", f"{reason}; leave it out, or use the layers {', '.join(known)}")
    usual = kind == "style" and read.optimizer == "lbfgs" and read.init in _FROM_NOISE
    return not missing and (usual if asked is None else asked)
