"""Pictures in: from the bytes of any still image file to 8-bit sRGB. The one place where pictures are decoded."""

import hashlib
import io
import threading
import warnings
from contextlib import nullcontext
from dataclasses import dataclass

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..jobs.spec import FitName, Mask, Picture
from .crafted import guard_pillow

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")

# The bound is the server's own, with a message that names the field; Pillow's would only warn at first.
Image.MAX_IMAGE_PIXELS = None
guard_pillow()
# Decoding takes up to 20 bytes a pixel for a moment, so that pictures of more pixels than this take turns.
_LARGE = 1 << 22
_turns = threading.BoundedSemaphore(2)
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


class PictureError(ValueError):
    """Why a file cannot be used as a picture, as a sentence that begins with a verb."""


@dataclass(frozen=True)
class Decoded:
    """A picture at its own size, 8-bit sRGB, and the SHA-256 of its file."""

    image: Image.Image
    sha256: str

    def fitted(self, size: int, fit: FitName) -> tuple[int, int]:
        """Width and height of this picture for a `size` and the rule of `fit`; pixels."""
        if fit == "square":
            return size, size
        longest = max(self.image.size)
        width, height = (max(1, round(side * size / longest)) for side in self.image.size)
        return width, height

    def at(self, width: int, height: int) -> Picture:
        """This picture squeezed to width x height, bilinear, averaging over all pixels that fall into one."""
        image = self.image
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return Picture(width, height, image.tobytes(), self.sha256)

    def mask_at(self, width: int, height: int) -> Mask:
        """This picture's brightness as a mask, squeezed to width x height."""
        levels = self.image.convert("L").resize((width, height), Image.Resampling.BILINEAR)
        return Mask(width, height, levels.tobytes(), self.sha256)

    @property
    def is_black(self) -> bool:
        """Whether it is black all over."""
        return self.image.getbbox() is None


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decodes a picture file.

    Raises:
        PictureError: it is no picture, of a format that is not read, damaged, or has more than `max_pixels` pixels;
            the last is seen from the header, before anything is decoded.
    """
    if not data:
        raise PictureError("is empty; send the bytes of a picture file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which does no harm.
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise PictureError(f"is not a picture this server reads; it reads {', '.join(FORMATS)}") from None
        except Exception as error:
            raise PictureError(f"has a damaged header: {_reason(error)}") from error
        width, height = image.size
        if width * height > max_pixels:
            raise PictureError(
                f"is {width}x{height}, {width * height:,} pixels, but this server takes at most {max_pixels:,}; "
                "scale it down first"
            )
        try:
            with _turns if width * height > _LARGE else nullcontext():
                image.load()
                return Decoded(_to_srgb(ImageOps.exif_transpose(image)), hashlib.sha256(data).hexdigest())
        except PictureError:
            raise
        except Exception as error:
            # A crafted file can make a decoder raise nearly anything.
            raise PictureError(f"cannot be decoded: {_reason(error)}") from error


def _to_srgb(image: Image.Image) -> Image.Image:
    """8-bit sRGB of a picture of any mode: alpha over white, embedded profile applied."""
    profile = image.info.get("icc_profile")
    if image.mode == "F":
        raise PictureError("has floating-point pixels, whose range is not defined; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        # 16-bit grey. Pillow would clip it at 255 rather than scale it.
        image = image.convert("I").point(lambda level: level * (1 / 257)).convert("L")
    if image.mode in ("PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode in ("1", "P", "HSV", "YCbCr", "LAB"):
        image = image.convert("RGB")
    if profile and image.mode in ("RGB", "L", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
            image = converted or image
        except (ImageCms.PyCMSError, OSError):
            pass  # A broken or mismatched profile says nothing; the pixels are taken as they are.
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
