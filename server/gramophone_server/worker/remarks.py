"""What a person should know of a picture that was made: the `warnings` of its recipe."""

from .prepared import Judged


def remarks(judged: Judged, iterations: int) -> list[str]:
    """Sentences about a finished picture; none if it is as it should be."""
    if judged.moved:
        return []
    remedies = "another options.init, or a lower options.learning_rate"
    if {"style", "content"} <= {term.kind for term in judged.terms}:
        remedies = (
            "another options.init, a lower options.learning_rate, or another ratio of style_weight to content_weight"
        )
    return [
        f"The picture is the one that the job began with, as none of {iterations:,} updates lowered its loss of "
        f"{judged.loss:.3g}; if it is to change, set {remedies}."
    ]
