"""Names of layers, made from the names of nodes and tensors in an ONNX file."""

import re
from collections.abc import Iterable, Sequence

LENGTH = 64
"""Maximum characters of a layer's name."""
# The last part of a node's name in torch's and TensorFlow's exports: the operator, not the module.
_OPERATOR = re.compile(
    r"(node_.*|(Conv|Conv2D|Relu|ReLU|Add|AddV2|BatchNormalization|FusedBatchNorm(V3)?|BiasAdd)(_\d+)?(_output_\d+)?(:\d+)?)"
)
# Suffixes and names of other tensors in the files that Gramophone writes.
_SUFFIX = re.compile(r"\.(weight|bias|head|linear|activation|padded|average|float32)$")
_OWN = re.compile(r"input|two|margins_.*")


def layer_names(candidates: Iterable[Sequence[str]], fallbacks: Iterable[str]) -> list[str]:
    """Returns a unique, valid name for each layer.

    Args:
        candidates: for each layer the names in the file, the best first.
        fallbacks: for each layer a name if none of the others can be used.
    """
    taken: set[str] = set()
    names = []
    for own, fallback in zip(candidates, fallbacks, strict=True):
        name = next(filter(None, map(valid_name, own)), fallback)
        names.append(_unique(name, taken))
        taken.add(names[-1])
    return names


def valid_name(raw: str) -> str:
    """Returns the name of a layer for a name in a file, such as "layer1.0.conv1" for "/layer1/layer1.0/conv1/Conv".

    The name has letters, digits, '_', '.' and '-'. It is empty for names that say nothing, such as "Conv_12" or "17".
    """
    parts = [part for part in raw.split("/") if part]
    if parts and _OPERATOR.fullmatch(parts[-1]):
        parts.pop()
    # torch repeats the path of the module in that of its children.
    kept = [p for p, following in zip(parts, [*parts[1:], ""], strict=False) if not following.startswith(f"{p}.")]
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", ".".join(kept))[-LENGTH:].lstrip("_.-")
    name = _SUFFIX.sub(r"_\1", name)
    if "::" in raw or name.isdigit():
        return ""
    return f"layer_{name}"[:LENGTH] if _OWN.fullmatch(name) else name


def _unique(name: str, taken: set[str]) -> str:
    number, unique = 1, name
    while unique in taken:
        number += 1
        suffix = f"_{number}"
        unique = name[: LENGTH - len(suffix)] + suffix
    return unique
