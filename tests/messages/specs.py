"""Specs for tests that do not run jobs."""

from dataclasses import replace
from typing import Any

from gramophone_server.messages.options import PreviewOptions, SynthesisOptions
from gramophone_server.messages.spec import JobSpec, LevelSpec, Picture, StyleLayer, StylePicture
from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.models.store import BUILTIN_MODEL

PICTURE = Picture(64, 64, b"", "0" * 64)


def make_spec(side: int = 64, **fields: Any) -> JobSpec:
    """A style reconstruction on a square canvas, changed by `fields`."""
    options = SynthesisOptions(
        model=BUILTIN_MODEL, size=side, fit="square", iterations=10, optimizer="adam", learning_rate=10.0, init="noise",
        precision="float32", pooling="max", tv_weight=0.0, report_every=1, preview=PreviewOptions(size=64),
        padding="zeros", loss_scale="paper", lbfgs_history=20, warm_start=False,
    )  # fmt: skip
    spec = JobSpec(
        kind="style", width=side, height=side, content=None, styles=(StylePicture(PICTURE, 1.0),), content_layers=(),
        style_layers=tuple(StyleLayer(name, 1.0, "gram") for name in STYLE_LAYERS), content_weight=0.0,
        style_weight=1.0, init_image=None, levels=(LevelSpec(side, side, 10),), options=options,
    )  # fmt: skip
    return changed(spec, **fields)


def changed(spec: JobSpec, **fields: Any) -> JobSpec:
    """Returns the spec with some of its fields or options changed."""
    own = {name: value for name, value in fields.items() if name in JobSpec.__dataclass_fields__}
    if loss := fields.get("style_loss"):
        own["style_layers"] = tuple(replace(layer, loss=loss) for layer in own.get("style_layers", spec.style_layers))
    options: dict[str, Any] = {name: value for name, value in fields.items() if name not in own}
    return replace(spec, options=replace(spec.options, **options), **own)  # type: ignore[arg-type]
