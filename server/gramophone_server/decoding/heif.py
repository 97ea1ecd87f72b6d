"""Support for HEIC, which needs the extra `heic` (pillow-heif), and AVIF, which needs Pillow 11.3 or newer."""

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec

from PIL import features

from . import kinds

BRANDS = ("HEIC", "HEIF", "AVIF")
"""Values of `kinds.brand_of` that the server can read, if the libraries are installed."""


@lru_cache(maxsize=1)
def has_avif() -> bool:
    """Returns whether Pillow reads AVIF."""
    return "avif" in features.modules and bool(features.check("avif"))


@lru_cache(maxsize=1)
def has_heic() -> bool:
    """Returns whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def prepare_for(files: Sequence[str]) -> None:
    """Calls `prepare` if one of the files is HEIC or AVIF."""
    for name in files:
        with open(name, "rb") as file:
            if kinds.brand_of(file.read(64)) in BRANDS:
                prepare()


@lru_cache(maxsize=1)
def prepare() -> None:
    """Loads the HEIC and AVIF decoders with one thread each.

    They are loaded on demand, to save memory in processes that decode other formats. More threads would need more
    address space, which is limited, and the limit on CPU time counts all threads.
    """
    if has_avif():
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if has_heic():
        import pillow_heif

        pillow_heif.options.DECODE_THREADS = 1
        pillow_heif.options.THUMBNAILS = pillow_heif.options.DEPTH_IMAGES = pillow_heif.options.AUX_IMAGES = False
        pillow_heif.register_heif_opener()


def missing_support(brand: str) -> str:
    """Returns what must be installed to read a brand, as a sentence that begins with a verb; empty if nothing."""
    if brand in ("HEIC", "HEIF") and not has_heic():
        return (
            f"is a {brand} picture, which this server reads only with the extra heic; install gramophone[heic] on the "
            "server, or save the picture as a JPEG"
        )
    if brand == "AVIF" and not has_avif():
        return (
            "is an AVIF picture, which this server reads only with Pillow 11.3 or newer; install it on the server, or "
            "save the picture as a JPEG"
        )
    return ""
