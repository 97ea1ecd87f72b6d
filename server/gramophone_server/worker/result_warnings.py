"""Warnings about a finished picture, which the `warnings` field of its recipe contains."""

from .prepared import FinishedPicture


def result_warnings(finished: FinishedPicture, iterations: int) -> list[str]:
    """Returns warnings about a finished picture; an empty list if there are none."""
    if finished.changed:
        return []
    remedies = "another options.init, or a lower options.learning_rate"
    if {"style", "content"} <= {term.kind for term in finished.terms}:
        remedies = (
            "another options.init, a lower options.learning_rate, or another ratio of style_weight to content_weight"
        )
    return [
        f"The result equals the initial picture, because none of {iterations:,} updates lowered its loss of "
        f"{finished.loss:.3g}; to change it, set {remedies}."
    ]
