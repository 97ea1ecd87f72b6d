"""Pictures drawn by programs, with nothing but numpy and Pillow; see `pictures.py` beside this folder."""

from collections.abc import Callable

from PIL import Image

from .harbour import harbour
from .night import night
from .seascape import seascape

PAINTERS: dict[str, Callable[[int, int], Image.Image]] = {"seascape": seascape, "night": night, "harbour": harbour}

__all__ = ["PAINTERS", "harbour", "night", "seascape"]
