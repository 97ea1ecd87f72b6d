"""From the recipe of a result to the job that paints it again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import Client, Job, Style, Uploaded
from ..options import OPTIONS
from .files import SUFFIXES, Picture

# Options that a recipe has in another form, or that do not affect the picture.
_OTHERS = {"init", "style_loss", "time_limit", "canvas_map", "result_format", "bit_depth", "report_every", "tile_size"}
# Parts of a recipe that say how it was computed, not what.
_CIRCUMSTANCES = {"versions", "device", "threads", "warnings", "precision", "report_every", "result", "reproducible"}
# Maximum bytes of a file that may be one of the pictures.
_MAX_BYTES = 128 << 20


@dataclass(frozen=True)
class Again:
    """A job from a recipe.

    Attributes:
        kind: "style", "content" or "transfer".
        pictures: its pictures as files, or `Uploaded` where no file was found, by the path of their field.
        arguments: keyword arguments of the method of Client with the name of `kind`.
    """

    kind: str
    pictures: dict[str, Picture | Uploaded]
    arguments: dict[str, Any]

    def submit(self, client: Client, options: Mapping[str, Any]) -> Job:
        """Submits the job with some options changed."""
        method: Callable[..., Job] = getattr(client, self.kind)
        return method(**{**self.arguments, **options})


def again(recipe: Mapping[str, Any], candidates: Iterable[Path]) -> Again:
    """Returns the job of a recipe.

    Args:
        recipe: from `read_recipe`.
        candidates: files among which its pictures are looked for, by their SHA-256.

    Raises:
        ValueError: the recipe lacks what every recipe has.
    """
    files = _Files(candidates)
    pictures: dict[str, Picture | Uploaded] = {}

    def picture(at: str, entry: Mapping[str, Any] | None) -> Any:
        if entry is None:
            return None
        pictures[at] = found = files.find(entry["sha256"])
        return found

    try:
        kind = recipe["kind"]
        arguments = {o.name: recipe[o.name] for o in OPTIONS if o.name in recipe.keys() - _OTHERS}
        arguments |= {"model": recipe["model"]["name"], "bit_depth": recipe["result"]["bit_depth"]}
        arguments["tile_size"] = recipe.get("tile_size") or 0
        arguments["init"] = picture("init", recipe["init_image"]) or recipe["init"]
        arguments |= _losses(recipe)
        if kind != "style":
            arguments["image" if kind == "content" else "content"] = picture("content", recipe["content"])
        if kind != "content":
            arguments["styles"] = list(_styles(recipe, picture))
            arguments["canvas_map"] = picture("canvas_map", next(filter(_in_map, _masks(recipe)), None))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the recipe in the picture is not complete: it lacks {error}") from error
    return Again(kind, pictures, {name: value for name, value in arguments.items() if value is not None})


def differences(before: Mapping[str, Any], after: Mapping[str, Any], changed: Iterable[str]) -> list[str]:
    """Returns the parts in which two recipes differ, except the changed options and the circumstances."""
    names = before.keys() & after.keys() - _CIRCUMSTANCES - set(changed)
    return sorted(name for name in names if before[name] != after[name])


class _Files:
    """The files that may be the pictures of a recipe; each is read once, and only as far as needed."""

    def __init__(self, candidates: Iterable[Path]) -> None:
        self._unread = iter(dict.fromkeys(candidates))
        self._known: dict[str, str] = {}

    def find(self, sha256: str) -> str | Uploaded:
        """Returns the path of the file with this hash; without one, a picture that the server may have."""
        while sha256 not in self._known:
            path = next(self._unread, None)
            if path is None:
                return Uploaded(sha256)
            try:
                if path.is_file() and path.stat().st_size <= _MAX_BYTES:
                    self._known.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), str(path))
            except OSError:
                continue
        return self._known[sha256]


def files_in(folder: Path) -> Iterator[Path]:
    """Yields the picture files in a folder; none if the folder cannot be read."""
    try:
        yield from (path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES)
    except OSError:
        return


def _losses(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments for layers, losses and their weights; the recipe has products of both weights."""
    several = {entry["loss"]: entry["weight"] for entry in recipe.get("style_losses", [])}
    layers = {
        entry["layer"]: entry["weight"] / several.get(entry.get("loss"), 1.0)
        for entry in recipe["style_layers"]
        if entry["layer"]
    }
    contents = {entry["layer"]: entry["weight"] for entry in recipe["content_layers"]}
    style = {"style_loss": several or recipe.get("style_loss")}
    match recipe["kind"]:
        case "style":
            return {"layers": layers, **style}
        case "content":
            return {"layers": contents}
        case _:
            weights = {name: recipe[name] for name in ("content_weight", "style_weight")}
            return {"content_layers": contents, "style_layers": layers or None, **weights, **style}


def _styles(recipe: Mapping[str, Any], picture: Callable[[str, Any], Any]) -> Iterator[Style]:
    """Yields the styles; those of the regions of one map are one style."""
    maps: set[tuple[str, str | None]] = set()
    for number, entry in enumerate(recipe["styles"]):
        at, scale = f"styles[{len(maps) or number}]", max(entry["width"], entry["height"]) / recipe["size"]
        size = None if scale == 1 else min(max(scale, 0.1), 8.0)
        mask, source = entry.get("mask"), entry.get("source_mask")
        if not _in_map(mask):
            masks = picture(f"{at}.mask", mask), picture(f"{at}.source_mask", source)
            yield Style(picture(f"{at}.image", entry), entry["share"], size, *masks)
        elif (one := (entry["sha256"], (source or {}).get("sha256"))) not in maps:
            maps.add(one)
            yield Style(picture(f"{at}.image", entry), scale=size, source_map=picture(f"{at}.source_map", source))


def _masks(recipe: Mapping[str, Any]) -> Iterator[Mapping[str, Any] | None]:
    return (entry.get("mask") for entry in recipe["styles"])


def _in_map(mask: Mapping[str, Any] | None) -> bool:
    """Returns whether a mask is a region of a map."""
    return bool(mask and mask.get("color"))
