"""Pictures drawn by programs, with numpy and Pillow only; see `pictures.py` next to this folder."""

from collections.abc import Callable

from PIL import Image

from .harbour import harbour
from .night import night
from .seascape import seascape

PAINTERS: dict[str, Callable[[int, int], Image.Image]] = {"seascape": seascape, "night": night, "harbour": harbour}

__all__ = ["PAINTERS", "harbour", "night", "seascape"]
