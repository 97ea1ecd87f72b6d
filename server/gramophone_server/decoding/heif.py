"""HEIC and AVIF, where there is what reads them: HEIC by the extra `heic`, AVIF by Pillow itself from 11.3 on."""

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec

from PIL import features

from . import kinds

BRANDS = ("HEIC", "HEIF", "AVIF")
"""Names of `brand_of` of files that may be read here."""


@lru_cache(maxsize=1)
def has_avif() -> bool:
    """Whether Pillow reads AVIF."""
    return "avif" in features.modules and bool(features.check("avif"))


@lru_cache(maxsize=1)
def has_heic() -> bool:
    """Whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def prepare_for(files: Sequence[str]) -> None:
    """Prepares for what is among files."""
    for name in files:
        with open(name, "rb") as file:
            if kinds.brand_of(file.read(64)) in BRANDS:
                prepare()


@lru_cache(maxsize=1)
def prepare() -> None:
    """Loads what reads these files, which decoders of others do without, and has it use one thread.

    Each thread would take address space, which is bounded, and the time of all together counts.
    """
    if has_avif():
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if has_heic():
        import pillow_heif

        pillow_heif.options.DECODE_THREADS = 1
        pillow_heif.options.THUMBNAILS = pillow_heif.options.DEPTH_IMAGES = pillow_heif.options.AUX_IMAGES = False
        pillow_heif.register_heif_opener()


def lacking(brand: str) -> str:
    """What has to be installed to read a file of a brand, as a sentence that begins with a verb; empty if nothing."""
    if brand in ("HEIC", "HEIF") and not has_heic():
        return (
            f"is a {brand} picture, which this server reads only with the extra heic; install gramophone[heic] there, "
            "or save the picture as a JPEG"
        )
    if brand == "AVIF" and not has_avif():
        return (
            "is an AVIF picture, which this server reads only with Pillow 11.3 or newer; install that there, or save "
            "the picture as a JPEG"
        )
    return ""
