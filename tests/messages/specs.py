"""Specs of jobs, for tests that do not run them."""

from dataclasses import replace

from gramophone_server.messages.spec import (
    JobSpec,
    LayerWeight,
    LevelSpec,
    Picture,
    PreviewSpec,
    ResultSpec,
    StylePicture,
)
from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.models.store import BUILTIN_MODEL

PICTURE = Picture(64, 64, b"", "0" * 64)


def make_spec(side: int = 64, **fields: object) -> JobSpec:
    """A style reconstruction on a square canvas, changed by `fields`."""
    spec = JobSpec(
        kind="style", model=BUILTIN_MODEL, width=side, height=side, content=None, styles=(StylePicture(PICTURE, 1.0),),
        content_layers=(), style_layers=tuple(LayerWeight(name, 1.0) for name in STYLE_LAYERS), content_weight=0.0,
        style_weight=1.0, size=side, fit="square", iterations=10, optimizer="adam", learning_rate=10.0, init="noise",
        init_image=None, seed=0, precision="float32", pooling="max", tv_weight=0.0, report_every=1,
        preview=PreviewSpec(1, 64, "jpeg"), time_limit=None, levels=(LevelSpec(side, side, 10),), padding="zeros",
        init_noise=0.5, averaging=0.0, plateau=0.0, color="style", loss_scale="paper", lbfgs_history=20,
        result=ResultSpec("png", 8), tile_size=None,
    )  # fmt: skip
    return replace(spec, **fields)  # type: ignore[arg-type]
