"""Pictures of a job whose canvas wraps, without the jump between their opposite edges."""

from dataclasses import replace

from ..engine import canvas as canvases
from ..engine.periodic import periodic_component
from ..messages.spec import JobSpec, Picture
from .pictures import canvas_of, with_colors


def without_jumps(spec: JobSpec) -> JobSpec:
    """Returns the job with the periodic components of its content and its initial picture, if its canvas wraps.

    With the pictures themselves, the content loss would restore the jump. The pictures of a job that keeps pixels of
    the content exactly stay unchanged.
    """
    if not any(spec.wraps) or spec.options.outside == "keep":
        return spec
    content, start = (picture and _periodic(picture, spec) for picture in (spec.content, spec.init_image))
    return replace(spec, content=content, init_image=start)


def _periodic(picture: Picture, spec: JobSpec) -> Picture:
    return with_colors(picture, canvases.to_pictures(periodic_component(canvas_of(picture), spec.wraps))[0])
