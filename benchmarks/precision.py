"""Losses in float32 and bfloat16 over the iterations: whether the faster bfloat16 needs more iterations."""

from typing import Any

from gramophone_server.engine.device import set_up_cpu

from .inputs import best_model, need_bfloat16, picture, prepare

MARKS = (25, 50, 100, 200)


def measure() -> dict[str, Any]:
    """Measures the losses of both optimizers in both precisions."""
    need_bfloat16()
    set_up_cpu()
    model, image, rows = best_model(), picture(224), []
    for optimizer in ("lbfgs", "adam"):
        losses: dict[str, list[float]] = {}
        for precision in ("float32", "bfloat16"):
            options: dict[str, Any] = {"optimizer": optimizer, "precision": precision, "report_every": MARKS[0]}
            job = prepare(model, image, size=224, iterations=MARKS[-1], scales=1, warm_start=False, **options)
            losses[precision] = [job.finish(f).loss for f in job.synthesis if f.iteration in MARKS]
            row = {f"loss at {mark}": f"{loss:.2e}" for mark, loss in zip(MARKS, losses[precision], strict=True)}
            rows.append({"optimizer": optimizer, "precision": precision, **row})
    how = (
        f"Style at 5 layers of {model.manifest.name}, 224x224; the loss is computed in float32 from the 8-bit picture."
    )
    return {"title": "Precision", "how": how, "rows": rows}
